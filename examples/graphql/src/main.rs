//! `cargo run -p graphql`
//!
//! Open <http://127.0.0.1:8080>, send the mutation, and then `{ me clicks }`.

use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{App, HttpServer, cookie::Key, get, post, web};
use async_graphql::{Context, EmptySubscription, Object, Result, Schema};

struct Query;

#[Object]
impl Query {
    async fn me(&self, context: &Context<'_>) -> Result<Option<String>> {
        Ok(context.data::<Session>()?.principal())
    }

    async fn clicks(&self, context: &Context<'_>) -> Result<Option<u32>> {
        Ok(context.data::<Session>()?.get("clicks")?)
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn log_in(&self, context: &Context<'_>, user: String) -> Result<bool> {
        context.data::<Session>()?.login(&*user)?;
        Ok(true)
    }

    async fn click(&self, context: &Context<'_>) -> Result<Option<u32>> {
        let session = context.data::<Session>()?;
        session.modify("clicks", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
        Ok(session.get("clicks")?)
    }
}

type Api = Schema<Query, Mutation, EmptySubscription>;
type Asked = web::Json<async_graphql::Request>;
type Answer = web::Json<async_graphql::Response>;

/// The session is `Send + Sync`: it goes into the context as it is.
#[post("/graphql")]
async fn graphql(api: web::Data<Api>, session: Session, asked: Asked) -> Answer {
    web::Json(api.execute(asked.into_inner().data(session)).await)
}

const PAGE: &str = "<textarea id=q cols=60>mutation { logIn(user: \"ada\") click }</textarea>
    <button id=send>Send</button> <pre id=out></pre>
    <script>send.onclick = async () => {
        const headers = { 'content-type': 'application/json' };
        const body = JSON.stringify({ query: q.value });
        const answer = await fetch('/graphql', { method: 'POST', headers, body });
        out.textContent = await answer.text();
    };</script>";

#[get("/")]
async fn page() -> web::Html {
    web::Html::new(PAGE)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let api = Api::build(Query, Mutation, EmptySubscription).finish();
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        let sessions = sessions.cookie_secure(false).build(); // plain http, on this computer alone
        let app = App::new().app_data(web::Data::new(api.clone()));
        app.service(graphql).service(page).wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
