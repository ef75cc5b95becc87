//! The system's TLS library needs neither.

#[allow(clippy::unnecessary_wraps, reason = "as with rustls")]
pub(super) const fn choose() -> anyhow::Result<()> {
    Ok(())
}

#[allow(clippy::unnecessary_wraps, reason = "as with rustls")]
pub(super) const fn system_roots() -> anyhow::Result<Option<Vec<u8>>> {
    Ok(None)
}
