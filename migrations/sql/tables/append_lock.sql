-- An advisory lock may be taken by any login that may connect; this one only by those that may append.
CREATE TABLE append_lock ();

COMMENT ON TABLE append_lock IS
    'Always empty: whoever appends locks it (SHARE ROW EXCLUSIVE) to the end of the transaction, so that positions follow the order of commit.';
