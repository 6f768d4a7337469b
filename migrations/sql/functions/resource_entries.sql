CREATE FUNCTION resource_entries(document jsonb)
RETURNS TABLE (list text, entry text, detail jsonb, field text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT
        lists.list,
        CASE WHEN lists.name IS NULL THEN item.value #>> '{}' ELSE item.value ->> lists.name END,
        CASE WHEN lists.name IS NOT NULL THEN item.value - lists.name
             WHEN lists.list = 'policy' THEN jsonb_build_object(
                 'policyType', document #> '{spec,policy,rootOfTrust,policyType}',
                 'sha256', encode(sha256(convert_to(document #>> '{spec,policy}', 'UTF8')), 'hex'))
        END,
        lists.field
    FROM (VALUES
        ('allowed', 'spec.registrySources.allowedRegistries', NULL),
        ('blocked', 'spec.registrySources.blockedRegistries', NULL),
        ('insecure', 'spec.registrySources.insecureRegistries', NULL),
        ('search', 'spec.registrySources.containerRuntimeSearchRegistries', NULL),
        ('import', 'spec.allowedRegistriesForImport', 'domainName'),
        ('digest-mirror', 'spec.repositoryDigestMirrors', 'source'),
        ('digest-mirror', 'spec.imageDigestMirrors', 'source'),
        ('tag-mirror', 'spec.imageTagMirrors', 'source'),
        ('policy', 'spec.scopes', NULL)
    ) AS lists (list, field, name)
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(document #> string_to_array(lists.field, '.'))
            WHEN 'array' THEN document #> string_to_array(lists.field, '.') ELSE '[]'
        END
    ) AS item
    UNION ALL
    SELECT 'ca', replace(item.key, '..', ':'),
        jsonb_build_object('sha256', encode(sha256(convert_to(item.value, 'UTF8')), 'hex')), 'data'
    FROM jsonb_each_text(
        CASE WHEN document ->> 'kind' = 'ConfigMap' AND jsonb_typeof(document -> 'data') = 'object'
            THEN document -> 'data' ELSE '{}'
        END
    ) AS item
$$;
COMMENT ON FUNCTION resource_entries(jsonb) IS 'What a resource''s document lists: rows of mirror sets, entries of lists, scopes of policies, registries with a CA.';
