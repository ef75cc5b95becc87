//! Stands in for what TLS by `rustls` needs, where that is not built.

pub(crate) const fn prepare() {}
