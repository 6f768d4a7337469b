CREATE FUNCTION reconciler_v1.group_end(at bigint) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT event.position - 1 FROM public.events AS event
         WHERE event.position > at AND event.append_group > at ORDER BY event.position LIMIT 1),
        (SELECT event.position FROM public.events AS event
         WHERE event.position >= at ORDER BY event.position DESC LIMIT 1)
    )
$$;
COMMENT ON FUNCTION reconciler_v1.group_end(bigint) IS 'The last position of the append group that a position is in: what was appended together is seen together. NULL for a position that the log does not have yet.';
