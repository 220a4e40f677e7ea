-- Add an event that is about nothing that has a record.
--
-- Arguments: fields (texts: id, type, subject, tenant, url, perhaps request_id), ttl_s.
add_event(args.fields, args.ttl_s)
return 1
