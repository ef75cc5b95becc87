//! Requests that another site makes in a visitor's name (cross-site request forgery).
//!
//! Browsers add cookies to requests by themselves, whoever caused them. `SameSite` keeps the session
//! cookie out of most of those that other sites cause, but not out of those of sibling subdomains,
//! which are the same *site*; and a login form needs no cookie to be abused.
//!
//! [`CrossSiteGuard`] refuses such requests by what browsers say of them. It needs no token, and no
//! change to forms. Whoever must have a token too has
//! [`Session::csrf_token`](crate::Session::csrf_token).
//!
//! # Logins that come back from another site
//!
//! An identity provider sends the user back with a redirect. Under `SameSite=Strict` that request
//! comes without the session cookie, so the session cannot keep what began the login (`state`, the
//! PKCE verifier). Keep it in a second session of its own name, which is `Lax` and lives for ten
//! minutes: an entry for each login that is begun, since two tabs may begin one each. The entry is
//! taken once.
//!
//! ```
//! # #[cfg(feature = "memory-session")]
//! # mod example {
//! use actix_session::{
//!     NamedSession, Session, SessionMiddleware, SessionName,
//!     config::{ConfigError, PersistentSession},
//!     storage::MemorySessionStore,
//! };
//! use actix_web::{
//!     HttpResponse,
//!     cookie::{Key, SameSite, time::Duration},
//!     dev::HttpServiceFactory,
//!     error::ErrorBadRequest,
//!     web,
//! };
//! # use serde::Deserialize;
//!
//! /// The visitor's own session, beside that of the login.
//! struct Main;
//!
//! impl SessionName for Main {
//!     const COOKIE: &'static str = "__Host-id";
//! }
//!
//! /// Everything below `/login`. The application around it has the `Strict` session.
//! pub fn login(store: MemorySessionStore, key: Key) -> Result<impl HttpServiceFactory, ConfigError> {
//!     let flow = SessionMiddleware::builder(store, key)
//!         .cookie_name("__Secure-login".to_owned())
//!         .cookie_path("/login".to_owned())
//!         .cookie_same_site(SameSite::Lax)
//!         .session_lifecycle(PersistentSession::default().session_ttl(Duration::minutes(10)))
//!         .try_build()?;
//!     Ok(web::scope("/login")
//!         .wrap(flow)
//!         .route("/begin", web::get().to(begin))
//!         .route("/callback", web::get().to(callback))
//!         .route("/finish", web::get().to(finish)))
//! }
//!
//! async fn begin(flow: Session) -> actix_web::Result<HttpResponse> {
//!     let state = "a random text, drawn for this login";
//!     flow.insert(format!("pending.{state}"), true)?;
//!     let to = format!("https://op.example/authorize?state={state}");
//!     Ok(HttpResponse::SeeOther().insert_header(("Location", to)).finish())
//! }
//!
//! # #[derive(Deserialize)]
//! # struct Answer { state: String, code: String }
//! # #[derive(Deserialize)]
//! # struct Begun { state: String }
//! # async fn redeem(code: &str) -> actix_web::Result<String> { Ok(code.to_owned()) }
//! /// Comes from the other site: with the `Lax` cookie, without the `Strict` one.
//! async fn callback(flow: Session, answer: web::Query<Answer>) -> actix_web::Result<HttpResponse> {
//!     let state = &answer.state;
//!     if flow.take::<bool>(&format!("pending.{state}")).await?.is_none() {
//!         return Err(ErrorBadRequest("no such login is pending"));
//!     }
//!     flow.insert(format!("verified.{state}"), redeem(&answer.code).await?)?;
//!     // A redirect would still come from the other site. This page's own request does not. The
//!     // text of `state` is known to be ours.
//!     let page = format!(
//!         r#"<meta http-equiv="refresh" content="0;url=/login/finish?state={state}">"#
//!     );
//!     Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page))
//! }
//!
//! /// Comes from our own page, with both cookies.
//! async fn finish(
//!     flow: Session,
//!     main: NamedSession<Main>,
//!     begun: web::Query<Begun>,
//! ) -> actix_web::Result<HttpResponse> {
//!     let verified = format!("verified.{}", begun.state);
//!     let Some(user) = flow.take::<String>(&verified).await? else {
//!         return Err(ErrorBadRequest("no login is pending"));
//!     };
//!     main.login(user)?;
//!     Ok(HttpResponse::SeeOther().insert_header(("Location", "/")).finish())
//! }
//! # }
//! # #[cfg(feature = "memory-session")]
//! # assert!(example::login(
//! #     actix_session::storage::MemorySessionStore::new(),
//! #     actix_web::cookie::Key::generate(),
//! # ).is_ok());
//! ```
//!
//! A login that the callback itself finished would begin without the visitor's former session, and a
//! redirect from there would arrive logged out, since it still comes from the other site.
//!
//! Use a store on the server for it: with cookie-stored sessions, nothing can be taken *once*. A
//! provider that answers by `POST` (`response_mode=form_post`) gets a cookie only with
//! `SameSite=None`; [exempt](CrossSiteGuard::exempt) that route from the guard.

mod guard;
mod origin;
mod token;
mod verdict;

pub use self::{
    guard::{CrossSiteGuard, CrossSiteRefusal},
    origin::InvalidOrigin,
    token::CsrfTokenError,
    verdict::CrossSiteReason,
};

#[doc(hidden)]
pub use self::guard::InnerCrossSiteGuard;
