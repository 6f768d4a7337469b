CREATE TABLE identities (
    login text NOT NULL,
    identity text NOT NULL CHECK (identity <> ''),
    PRIMARY KEY (login, identity)
);
COMMENT ON TABLE identities IS 'Names and addresses that people with a database login have in Git commits, where these do not tell by themselves. Written by the owner.';
COMMENT ON COLUMN identities.login IS 'The login, or the operating system''s login of who shares one.';
COMMENT ON COLUMN identities.identity IS 'A name or an email address as commits have it.';
