CREATE FUNCTION reconciler_v1.position_at(at timestamptz) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT event.position FROM public.events AS event
    WHERE event.recorded_at <= at ORDER BY event.recorded_at DESC, event.position DESC LIMIT 1
$$;
COMMENT ON FUNCTION reconciler_v1.position_at(timestamptz) IS 'The last position that was recorded by then; NULL before the first event.';
