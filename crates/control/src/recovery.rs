//! What if nobody has a token that may administer control any more?
//!
//! Whoever can read control's configuration and its state directory can do everything that control
//! can. For them there is a command that puts one more token into the database, whether control
//! runs meanwhile or not. The audit log says that it was done here.

use std::time::SystemTime;

use nigh_proto::{
    TokenId,
    access::{Scope, Verbs},
};

use crate::{
    app::Secret,
    config::ControlConfig,
    random::random,
    request::Actor,
    server::{StartError, open_seal},
    store::{Deed, Store, TokenRow},
};

/// Makes a token that may administer everything and never expires. Returns its secret.
pub async fn create_admin_token(
    config: &ControlConfig,
    name: &str,
    now: SystemTime,
) -> Result<String, StartError> {
    config.check()?;
    let database = config.state_dir.join("control.db");
    // A database that is made here would be that of another control.
    if config.database.url.is_none() && !database.exists() {
        return Err(StartError::NoDatabase { file: database });
    }
    // A new database, and with it a new key, is for control to make.
    let seal = |_| open_seal(config, false);
    let store = Store::open(config.database.url.as_deref(), &database, seal).await?;
    let (secret, now) = (Secret::person(), now.into());
    let row = TokenRow {
        id: TokenId::new(nigh_proto::Timestamp::unix_ms(now).max(0).unsigned_abs(), random()),
        hash: secret.hash(),
        name: name.to_owned(),
        scope: Some(Scope::Admin),
        more: Verbs::NONE,
        sites: Vec::new(),
        created_at: now,
        expires_at: None,
        last_used_at: None,
    };
    let mut tx = store.begin().await?;
    tx.insert_token(&row).await?;
    tx.audit_by(Actor::operator(), now, Deed::new("token.recover", &row.id).detail("name", name))
        .await?;
    tx.commit().await?;
    store.close().await;
    Ok(secret.reveal())
}
