CREATE ROLE reconciler_reader NOLOGIN;
CREATE ROLE reconciler_service NOLOGIN;
CREATE ROLE reconciler_operator NOLOGIN;
CREATE ROLE reconciler_approver NOLOGIN;
