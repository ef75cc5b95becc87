//! Only tests: this library and the published versions of `actix-session` over the same cookies and records.
