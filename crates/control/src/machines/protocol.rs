//! Does a machine speak what control does?
//!
//! Asked before every route, so that nothing is taken from, or told to, a machine that would understand
//! something else by it. Such a machine goes on with what it has, and people are told.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use nigh_proto::{
    Protocols,
    protocol::{self, PROTOCOL},
};

use super::Peer;
use crate::{api::problem::Refusal, app::App};

/// Refuses a machine that control cannot talk to, and names what control speaks on every answer.
pub(super) async fn agree(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&app, &request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let here = HeaderValue::try_from(Protocols::HERE.to_string());
    let here = here.expect("digits and a hyphen may be in a header field");
    response.headers_mut().insert(PROTOCOL, here);
    response
}

fn refusal(app: &App, request: &Request) -> Option<Refusal> {
    let named = request.headers().get(PROTOCOL).map(HeaderValue::as_bytes);
    let machine = match Protocols::named(named) {
        Ok(machine) => machine,
        Err(error) => return Some(Refusal::new(StatusCode::BAD_REQUEST, "header_invalid", error)),
    };
    let mismatch = protocol::agree(machine, Protocols::HERE).err()?;
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0.as_ref());
    if let Some(presented) = peer {
        app.note_mismatch(&presented.identity, mismatch);
    }
    Some(Refusal::new(StatusCode::CONFLICT, "protocol_mismatch", mismatch))
}
