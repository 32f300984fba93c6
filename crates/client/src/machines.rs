//! Machines of the fleet, and the tokens by which they join.

use http::Method;
use nigh_proto::{
    MachineName,
    api::{JoinTokenCreated, MachineView, NewJoinToken},
    report::MachineRole,
};

use crate::{Call, CallError, Client};

impl Client {
    /// `GET /v1/machines`, every page; of one role or of all.
    pub async fn machines(&self, role: Option<MachineRole>) -> Result<Vec<MachineView>, CallError> {
        let mut call = Call::new(Method::GET, &["v1", "machines"]);
        if let Some(role) = role {
            call = call.query("role", role.label());
        }
        self.list(&call).await
    }

    /// `POST /v1/machines/{name}/drain` or `/undrain`.
    pub async fn set_drained(
        &self,
        machine: &MachineName,
        is_drained: bool,
    ) -> Result<(), CallError> {
        let verb = if is_drained { "drain" } else { "undrain" };
        let path = ["v1", "machines", machine.as_str(), verb];
        self.command(&Call::new(Method::POST, &path)).await
    }

    /// `POST /v1/machines/{name}/revoke`.
    pub async fn revoke_machine(&self, machine: &MachineName) -> Result<(), CallError> {
        let path = ["v1", "machines", machine.as_str(), "revoke"];
        self.command(&Call::new(Method::POST, &path)).await
    }

    /// `DELETE /v1/machines/{name}`.
    pub async fn remove_machine(&self, machine: &MachineName) -> Result<(), CallError> {
        self.command(&Call::new(Method::DELETE, &["v1", "machines", machine.as_str()])).await
    }

    /// `POST /v1/join-tokens`.
    pub async fn create_join_token(
        &self,
        token: &NewJoinToken,
    ) -> Result<JoinTokenCreated, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "join-tokens"]).json(token)).await
    }
}
