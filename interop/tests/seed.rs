//! The two programs in the documentation of actix-session 0.9, word for word.

#![allow(
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    clippy::redundant_closure,
    clippy::unwrap_used,
    reason = "the programs stand here as they were written"
)]

mod support;

use actix_session::storage::MemorySessionStore;
use actix_web::{HttpResponse, test, web};

use self::support::{Client, Server, key};

/// "Getting started". It listens on a fixed port, so the test only compiles it.
///
/// (The page imports `RedisActorSessionStore` but uses `RedisSessionStore`; that compiles with no version.)
#[allow(dead_code)]
mod getting_started {
    use actix_session::{SessionMiddleware, storage::RedisSessionStore};
    use actix_web::{App, HttpResponse, HttpServer, cookie::Key, web};

    #[actix_web::main]
    async fn main() -> std::io::Result<()> {
        // When using `Key::generate()` it is important to initialize outside of the
        // `HttpServer::new` closure. When deployed the secret key should be read from a
        // configuration file or environment variables.
        let secret_key = Key::generate();

        let redis_store = RedisSessionStore::new("redis://127.0.0.1:6379")
            .await
            .unwrap();

        HttpServer::new(move || {
            App::new()
                // Add session management to your application using Redis for session state storage
                .wrap(SessionMiddleware::new(
                    redis_store.clone(),
                    secret_key.clone(),
                ))
                .default_service(web::to(|| HttpResponse::Ok()))
        })
        .bind(("127.0.0.1", 8080))?
        .run()
        .await
    }
}

mod handler {
    use actix_session::Session;
    use actix_web::Error;

    pub(crate) fn index(session: Session) -> Result<&'static str, Error> {
        // access the session state
        if let Some(count) = session.get::<i32>("counter")? {
            println!("SESSION value: {}", count);
            // modify the session state
            session.insert("counter", count + 1)?;
        } else {
            session.insert("counter", 1)?;
        }

        Ok("Welcome!")
    }
}

#[actix_web::test]
async fn the_counter_counts() {
    use actix_session::{Session, SessionMiddleware};
    use actix_web::App;
    use serde_json::json;

    async fn counted(session: Session) -> actix_web::Result<HttpResponse> {
        let before = json!({"counter": session.get::<i32>("counter")?});
        assert_eq!(handler::index(session)?, "Welcome!");
        Ok(HttpResponse::Ok().json(json!({"before": before})))
    }
    let app = App::new()
        .wrap(SessionMiddleware::new(MemorySessionStore::new(), key()))
        .default_service(web::to(counted));
    let server = Server::new("the documentation's", test::init_service(app).await);
    let mut client = Client::default();
    for count in [json!(null), json!(1), json!(2), json!(3)] {
        let before = client.read(&server).await;
        assert_eq!(before["counter"], count);
    }
}
