//! Stands in for what `rustls` needs where TLS is the system's.

pub(super) const fn prepare() {}

/// The system's library has its own.
#[allow(clippy::unnecessary_wraps, reason = "as with rustls")]
pub(super) const fn system_roots() -> anyhow::Result<Option<Vec<u8>>> {
    Ok(None)
}
