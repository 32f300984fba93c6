//! How do machines talk to control?
//!
//! `join` makes a machine one of the fleet and `renew` keeps it in, `watch` tells it its state as it
//! changes, `report` hears it, `content` gives it blobs, `refill` takes some back and `offer`
//! whole states; `protocol` looks first whether they can. Every route but
//! join is for machines that present a
//! certificate of control's CA, and [`Machine`] is the proof; `turned_away` tells the log who has none.

mod content;
mod join;
mod offer;
mod protocol;
mod refill;
mod renew;
mod report;
pub(crate) mod turned_away;
mod watch;

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    middleware,
    routing::{get, post, put},
};

use crate::{
    api::{guard, problem::Refusal},
    app::{App, AppError},
    ca::Presented,
    store::MachineRow,
};

/// Who is at the other end of a connection, as its client certificate says. An extension of every
/// request on the machine port; `None` without a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) Option<Presented>);

/// A machine that has joined and was not removed since.
#[derive(Clone, Debug)]
pub(crate) struct Machine(pub(crate) MachineRow);

/// Every route of `/machine/v1`.
pub(crate) fn router(app: App) -> Router {
    let routes = Router::new()
        .route("/machine/v1/join", post(join::join))
        .route("/machine/v1/renew", post(renew::renew))
        .route("/machine/v1/watch", get(watch::watch))
        .route("/machine/v1/report", post(report::report))
        .route("/machine/v1/state", put(offer::state))
        .route("/machine/v1/packs", post(content::pack).put(refill::pack))
        .route("/machine/v1/blobs/{digest}", get(content::blob).put(refill::blob))
        .route("/machine/v1/blobs/{digest}/outline", get(content::outline))
        .route("/machine/v1/locations", post(content::locations))
        .layer(middleware::from_fn_with_state(app.clone(), protocol::agree))
        .with_state(app.clone());
    guard(routes, app)
}

impl FromRequestParts<App> for Machine {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.0.clone());
        let presented = peer.ok_or_else(|| {
            let why = "this route is for machines; join first and present the certificate";
            Refusal::new(StatusCode::UNAUTHORIZED, "certificate_required", why)
        })?;
        if presented.not_after <= app.now() {
            let why = format!(
                "this machine's certificate ended at {}; join with a new token",
                presented.not_after
            );
            app.turn_away(&presented.identity.name, &why);
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "certificate_expired", why));
        }
        let identity = presented.identity;
        let world = app.world();
        let known = world.machine(&identity.name).filter(|row| row.id == identity.id);
        match known {
            Some(row) => Ok(Machine(row.clone())),
            None => {
                let error = AppError::MachineRemoved(identity.name.clone());
                app.turn_away(&identity.name, &error);
                Err(error.into())
            }
        }
    }
}
