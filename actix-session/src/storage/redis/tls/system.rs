//! The system's TLS library needs neither.

pub(super) const fn choose() {}

#[allow(clippy::unnecessary_wraps, reason = "as with rustls")]
pub(super) const fn system_roots() -> anyhow::Result<Option<Vec<u8>>> {
    Ok(None)
}
