//! Keeps the value of the session's header out of the `Debug` output of requests.

use actix_web::{dev::ServiceRequest, http::header::HeaderName};

/// Marks the values as sensitive. By itself, actix-web hides those of `Cookie` and `Authorization`.
pub(super) fn hide_values(req: &mut ServiceRequest, header: &HeaderName) {
    if !req.headers().contains_key(header) || !is_alone(req) {
        return;
    }
    req.headers_mut().retain(|name, value| {
        if name == header {
            value.set_sensitive(true);
        }
        true
    });
}

/// Whether nobody else holds the request: otherwise actix-web panics where its headers are changed. It
/// does so too on the way to a resource, so that nobody does while there is one further in.
fn is_alone(req: &ServiceRequest) -> bool {
    let is_underway = !req.match_info().unprocessed().is_empty();
    is_underway && req.resource_map().has_resource(req.path())
}

#[cfg(test)]
#[cfg(feature = "memory-session")]
mod tests {
    use actix_web::{
        App, Error, HttpRequest,
        body::MessageBody,
        cookie::Key,
        dev::{ServiceRequest, ServiceResponse},
        middleware::{Next, from_fn},
        test::{self, TestRequest},
        web,
    };

    use crate::{SessionMiddleware, storage::MemorySessionStore};

    /// Keeps the request, as some middlewares do.
    async fn keep(
        req: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        let _kept = req.request().clone();
        next.call(req).await
    }

    async fn show(
        req: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        let shown = format!("{req:?}");
        assert!(!shown.contains("token"), "{shown}");
        next.call(req).await
    }

    async fn handler(req: HttpRequest) -> String {
        let values = req.headers().get_all("x-session");
        let values: Vec<_> = values.map(|it| it.to_str().unwrap()).collect();
        assert_eq!(values, ["token-1", "token-2"]);
        format!("{req:?}")
    }

    fn sessions() -> SessionMiddleware<MemorySessionStore> {
        let key = Key::from(&[7; 64]);
        let builder = SessionMiddleware::builder(MemorySessionStore::new(), key);
        builder.header("X-Session").build()
    }

    #[actix_web::test]
    async fn what_a_request_shows_has_no_session_in_it() {
        let inner = web::scope("/inner")
            .route("/a", web::to(handler))
            .wrap(from_fn(show))
            .wrap(sessions());
        let around = web::scope("/around")
            .service(web::resource("/{b}").wrap(from_fn(show)).to(handler))
            .wrap(from_fn(show))
            .wrap(sessions());
        let kept = web::resource("/kept")
            .to(handler)
            .wrap(sessions())
            .wrap(from_fn(keep));
        let app = App::new().service(inner).service(around).service(kept);
        let app = test::init_service(app).await;
        for (path, is_hidden) in [
            ("/inner/a", true),
            ("/around/b", true),
            // Somebody holds the request.
            ("/kept", false),
        ] {
            let request = TestRequest::with_uri(path)
                .append_header(("X-Session", "token-1"))
                .append_header(("X-Session", "token-2"))
                .append_header(("X-Other", "shown"));
            let shown = test::call_and_read_body(&app, request.to_request()).await;
            let shown = String::from_utf8(shown.to_vec()).unwrap();
            assert_eq!(!shown.contains("token"), is_hidden, "{path}: {shown}");
            assert_eq!(shown.contains("Sensitive"), is_hidden, "{path}");
            assert!(shown.contains("shown"), "{path}");
        }
    }

    #[actix_web::test]
    async fn an_applications_request_shows_none_either() {
        let app = App::new()
            .route("/", web::to(handler))
            .wrap(from_fn(show))
            .wrap(sessions());
        let app = test::init_service(app).await;
        let request = TestRequest::default()
            .append_header(("X-Session", "token-1"))
            .append_header(("X-Session", "token-2"));
        let shown = test::call_and_read_body(&app, request.to_request()).await;
        assert!(!String::from_utf8_lossy(&shown).contains("token"));
        // Without a way to go on, whoever holds the request may.
        let app = App::new()
            .default_service(web::to(handler))
            .wrap(sessions())
            .wrap(from_fn(keep));
        let app = test::init_service(app).await;
        let request = TestRequest::default()
            .append_header(("X-Session", "token-1"))
            .append_header(("X-Session", "token-2"));
        test::call_and_read_body(&app, request.to_request()).await;
    }
}
