//! How does a machine become one of the fleet?

use std::{path::PathBuf, time::Duration};

use nigh_dial::Turn;
use nigh_proto::{
    MachineName, Timestamp,
    report::{JoinRequest, JoinResponse, MachineAbout},
};

use crate::{
    config::ControlConfig,
    identity::{Identity, IdentityError, Membership},
    link::{self, CallError, Link, LinkError},
};

/// The answer holds two certificates and a name.
const RESPONSE_MAX_BYTES: usize = 1 << 20;
/// An answer to a join begins within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer files hold no token.
const TOKEN_MAX_BYTES: usize = 4 << 10;

/// Why a machine has not joined yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(
        "this machine has not joined: set control.join_token_file to a file with a join token (`nigh edge token NAME` makes one)"
    )]
    NoTokenFile,
    #[error("could not read the join token in {path}", path = path.display())]
    TokenFile { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no join token; one begins with nigh_join_", path = path.display())]
    NoToken { path: PathBuf },
    #[error(
        "the join token in {path} does not end in a fingerprint; copy the whole of it, or make a new one",
        path = path.display()
    )]
    NoPin { path: PathBuf },
    #[error("the join token in {path} is not accepted ({detail}); make a new one", path = path.display())]
    TokenRefused { path: PathBuf, detail: String },
    #[error("control knows this machine as {given}, the configuration says {wanted}")]
    OtherName { given: MachineName, wanted: MachineName },
    #[error("the certificate that control answered with cannot be used")]
    Unusable(#[source] LinkError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("could not join")]
    Call(#[from] CallError),
}

impl JoinError {
    /// Whether the same request would only fail again.
    pub(crate) fn needs_a_person(&self) -> bool {
        !matches!(self, JoinError::Call(error) if !error.needs_a_person())
    }
}

/// Joins with the token of the configuration and keeps what control answers. A machine that has
/// joined before does so as a stranger, with the key that it has.
pub(crate) async fn join(
    turn: Turn,
    control: &ControlConfig,
    identity: &mut Identity,
    about: &MachineAbout,
    now: Timestamp,
) -> Result<(), JoinError> {
    let path = control.join_token_file.clone().ok_or(JoinError::NoTokenFile)?;
    let text = read_token(path.clone()).await?;
    // Behind the dot is the fingerprint of control's CA, which control need not be told.
    let (token, pin) = match text.split_once('.') {
        None => (text.as_str(), None),
        Some((token, pin)) => match pin.parse() {
            Ok(pin) => (token, Some(pin)),
            Err(_) => return Err(JoinError::NoPin { path }),
        },
    };
    let link = Link::stranger(turn.clone(), control, identity, pin, &about.version)?;
    let request = JoinRequest {
        token: token.to_owned(),
        csr_pem: identity.request_pem(&about.name)?,
        about: about.clone(),
        sent_at: Some(now),
    };
    let request = link.talk().post(link.url("machine/v1/join")).json(&request);
    let response = match link::call(request, ANSWER_TIMEOUT).await {
        Err(CallError::Refused { status, detail }) if matches!(status.as_u16(), 401 | 403) => {
            return Err(JoinError::TokenRefused { path, detail });
        }
        answered => answered?,
    };
    let body = link::bounded(response, RESPONSE_MAX_BYTES).await?;
    let joined: JoinResponse =
        serde_json::from_slice(&body).map_err(|error| CallError::Garbled(error.into()))?;
    let JoinResponse { name, certificate_pem, ca_pem } = joined;
    if name != about.name {
        return Err(JoinError::OtherName { given: name, wanted: about.name.clone() });
    }
    let membership = Membership::new(identity.key_pem(), &certificate_pem, ca_pem);
    // What cannot be used must not take the place of what can.
    Link::new(turn, control, &identity.with(membership.clone()), &about.version)
        .map_err(JoinError::Unusable)?;
    identity.keep(membership)?;
    Ok(())
}

async fn read_token(path: PathBuf) -> Result<String, JoinError> {
    let bytes = match tokio::fs::read(&path).await {
        Ok(bytes) => bytes,
        Err(source) => return Err(JoinError::TokenFile { path, source }),
    };
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= TOKEN_MAX_BYTES);
    let token = text.as_deref().map(str::trim).filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or(JoinError::NoToken { path })
}
