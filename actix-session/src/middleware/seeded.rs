//! Sessions that a test gives to its requests.

use actix_web::{
    dev::ServiceRequest,
    http::header::{COOKIE, HeaderValue},
};

use super::{Parts, session_of};
use crate::{Session, session::Shown, storage::SessionStore, testing::seeds};

pub(crate) use crate::testing::seeds::unattached;

/// Makes the session that a test wants its request to have, and gives the request its cookie: or the
/// header that may carry it, if the request has that.
pub(crate) async fn plant<S: SessionStore>(
    parts: &Parts<S>,
    req: &mut ServiceRequest,
) -> Result<(), actix_web::Error> {
    let acts = seeds::take(req.headers());
    if acts.is_empty() {
        return Ok(());
    }
    let failed = |error| {
        let words = format!("the session of a test request cannot be made: {error:#}");
        actix_web::error::ErrorInternalServerError(words)
    };
    let act = |session: &Session| acts.into_iter().for_each(|act| act(session));
    let header = parts.cookies.header_name();
    let header = header.filter(|name| req.headers().contains_key(*name));
    let sealed = sealed(parts, act, header.is_some()).await.map_err(failed)?;
    let field =
        HeaderValue::from_bytes(&sealed).map_err(actix_web::error::ErrorInternalServerError)?;
    match header {
        Some(name) => drop(req.headers_mut().insert(name.clone(), field)),
        None => {
            // The client's own cookie of that name gives way.
            let name = &*parts.cookies.own.wire_name;
            let fields = req.headers().get_all(COOKIE);
            let others: Vec<_> = fields.filter_map(|field| without(field, name)).collect();
            let headers = req.headers_mut();
            headers.insert(COOKIE, field);
            others
                .into_iter()
                .for_each(|other| headers.append(COOKIE, other));
        }
    }
    Ok(())
}

/// A `Cookie` field without the cookies of this name, if any are left.
fn without(field: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let is_other = |pair: &&str| pair.split('=').next().is_none_or(|it| it.trim() != name);
    let pairs: Vec<_> = field.to_str().ok()?.split(';').filter(is_other).collect();
    let left = pairs.join(";");
    HeaderValue::from_str(left.trim())
        .ok()
        .filter(|left| !left.is_empty())
}

/// Makes a session, and returns the pair that its cookie has, or the value of the header.
pub(crate) async fn sealed<S: SessionStore>(
    parts: &Parts<S>,
    act: impl FnOnce(&Session),
    by_header: bool,
) -> anyhow::Result<Vec<u8>> {
    let session = session_of(parts, false, Shown::default());
    act(&session);
    let changes = session.lock().take_snapshot().changes;
    anyhow::ensure!(
        changes.makes_session(),
        "the session must have an entry or a login"
    );
    let created = parts.store.create(&changes, &parts.terms(false)).await;
    let (key, _) = created.map_err(|error| error.into_anyhow())?;
    parts.cookies.seal(key.as_ref(), by_header)
}
