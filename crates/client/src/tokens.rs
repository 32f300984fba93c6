//! API tokens.

use http::{HeaderValue, Method, header};
use nigh_proto::api::{NewToken, TokenChange, TokenCreated, TokenView};

use crate::{Call, CallError, Client};

impl Client {
    /// `POST /v1/tokens`.
    pub async fn create_token(&self, token: &NewToken) -> Result<TokenCreated, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "tokens"]).json(token)).await
    }

    /// `GET /v1/tokens`, every page.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, CallError> {
        self.list(&Call::new(Method::GET, &["v1", "tokens"])).await
    }

    /// `PATCH /v1/tokens/{id}`: changes what is named, whatever the rest is meanwhile.
    pub async fn change_token(
        &self,
        id: &str,
        change: &TokenChange,
    ) -> Result<TokenView, CallError> {
        let call = Call::new(Method::PATCH, &["v1", "tokens", id]).json(change);
        self.call(&call.header(header::IF_MATCH, HeaderValue::from_static("*"))).await
    }

    /// `DELETE /v1/tokens/{id}`.
    pub async fn revoke_token(&self, id: &str) -> Result<(), CallError> {
        self.command(&Call::new(Method::DELETE, &["v1", "tokens", id])).await
    }

    /// `GET /v1/whoami`: the token that this client shows.
    pub async fn whoami(&self) -> Result<TokenView, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "whoami"])).await
    }
}
