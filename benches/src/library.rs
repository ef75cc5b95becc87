//! What is the same over this library and over the one that it replaces.

/// The handlers, the application and a store of five methods, over one of the two libraries.
macro_rules! library {
    ($library:ident) => {
        use std::{
            collections::HashMap,
            sync::{Arc, Mutex, MutexGuard, PoisonError},
        };

        use actix_web::{App, cookie, web};
        use anyhow::Context as _;
        use $library::{
            Session, SessionMiddleware,
            config::{CookieContentSecurity, SessionMiddlewareBuilder},
            storage::{
                LoadError, SaveError, SessionKey, SessionStore, UpdateError, generate_session_key,
            },
        };

        use $crate::{
            Done, Job, actix,
            case::{Case, Seal},
            seed::Seed,
        };

        async fn read(session: Session) -> actix_web::Result<String> {
            let name: Option<String> = session.get("name")?;
            let visits: Option<i64> = session.get("visits")?;
            Ok(format!(
                "{} {}",
                name.unwrap_or_default(),
                visits.unwrap_or_default()
            ))
        }

        async fn write(session: Session) -> actix_web::Result<String> {
            let next = session.get::<i64>("counter")?.unwrap_or_default() + 1;
            session.insert("counter", next)?;
            Ok(next.to_string())
        }

        async fn login(session: Session) -> actix_web::Result<&'static str> {
            session.insert("user_id", 7_129_034)?;
            session.renew();
            Ok("ok")
        }

        /// The same with an entry of the client's own.
        async fn count(session: Session, name: web::Path<String>) -> actix_web::Result<String> {
            let next = session.get::<i64>(&name)?.unwrap_or_default() + 1;
            session.insert(name.into_inner(), next)?;
            Ok(next.to_string())
        }

        async fn seed_it(session: Session, seed: Seed) -> actix_web::Result<&'static str> {
            for (name, value) in seed.0 {
                session.insert(name, value)?;
            }
            Ok("ok")
        }

        /// Does the job with the store that `store` makes, for each thread one.
        async fn over<S: SessionStore + 'static>(
            store: impl Fn() -> S + Clone + Send + 'static,
            case: &Case,
            seed: &Seed,
            job: Job,
        ) -> anyhow::Result<Done> {
            let (own, seed) = (*case, seed.clone());
            let app = move || {
                let seed = seed.clone();
                App::new()
                    .wrap(middleware(store(), &own))
                    .route("/static", web::get().to(async || "ok"))
                    .route("/read", web::get().to(read))
                    .route("/write", web::get().to(write))
                    .route("/login", web::get().to(login))
                    .route(
                        "/seed",
                        web::get().to(move |session| seed_it(session, seed.clone())),
                    )
                    .route("/own/{name}", web::get().to(count))
            };
            actix::run(app, case, job).await
        }

        fn middleware<S: SessionStore>(store: S, case: &Case) -> SessionMiddleware<S> {
            let key = cookie::Key::from(&[7; 64]);
            let seal = match case.store.seal {
                None | Some(Seal::Private) => CookieContentSecurity::Private,
                Some(Seal::Signed) => CookieContentSecurity::Signed,
            };
            let builder = SessionMiddleware::builder(store, key).cookie_content_security(seal);
            adjust(builder, case).build()
        }

        /// What somebody writes who needs a store for an afternoon.
        #[derive(Clone, Default)]
        struct FiveMethods(Arc<Mutex<HashMap<String, HashMap<String, String>>>>);

        impl FiveMethods {
            fn map(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, String>>> {
                self.0.lock().unwrap_or_else(PoisonError::into_inner)
            }
        }

        impl SessionStore for FiveMethods {
            async fn load(
                &self,
                key: &SessionKey,
            ) -> Result<Option<HashMap<String, String>>, LoadError> {
                Ok(self.map().get(key.as_ref()).cloned())
            }

            async fn save(
                &self,
                state: HashMap<String, String>,
                _ttl: &cookie::time::Duration,
            ) -> Result<SessionKey, SaveError> {
                let key = generate_session_key();
                self.map().insert(key.as_ref().to_owned(), state);
                Ok(key)
            }

            async fn update(
                &self,
                key: SessionKey,
                state: HashMap<String, String>,
                _ttl: &cookie::time::Duration,
            ) -> Result<SessionKey, UpdateError> {
                let mut map = self.map();
                let stored = map.get_mut(key.as_ref()).context("the session has ended");
                *stored.map_err(UpdateError::Other)? = state;
                Ok(key)
            }

            async fn update_ttl(
                &self,
                _key: &SessionKey,
                _ttl: &cookie::time::Duration,
            ) -> anyhow::Result<()> {
                Ok(())
            }

            async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
                self.map().remove(key.as_ref());
                Ok(())
            }
        }
    };
}
pub(crate) use library;
