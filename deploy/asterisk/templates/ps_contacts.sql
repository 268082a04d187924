-- The table of registrars that share their contacts: psql -f ps_contacts.sql DATABASE. The columns are the fields of a contact in
-- res_pjsip (pjsip_options and location.c) that Asterisk 20 and later write.
CREATE TABLE IF NOT EXISTS ps_contacts (
    id text PRIMARY KEY,
    uri text,
    expiration_time bigint,
    qualify_frequency integer,
    qualify_timeout double precision,
    qualify_2xx_only text,
    authenticate_qualify text,
    outbound_proxy text,
    path text,
    user_agent text,
    reg_server text,
    via_addr text,
    via_port integer,
    call_id text,
    endpoint text,
    prune_on_boot text
);
CREATE INDEX IF NOT EXISTS ps_contacts_endpoint ON ps_contacts (endpoint);
