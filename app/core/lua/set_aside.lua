-- Set keys of the wrong type aside.
--
-- KEYS: any. Arguments: types, the type that each should have.
set_aside_wrong_types(args.types)
return 1
