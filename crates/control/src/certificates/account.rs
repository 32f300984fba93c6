//! Who is control to a CA?
//!
//! One account per CA, made on first use, with its key sealed in the database. With external account
//! binding it belongs to a customer that the CA knows already.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};

use super::{
    issuers::Issuer,
    trouble::{Fault, is_account_gone, is_bad_nonce, of_whole_ca},
};
use crate::app::App;

/// Repeats a call as long as the CA only wants another nonce.
macro_rules! with_nonces {
    ($call:expr) => {{
        let mut left = 20;
        loop {
            match $call {
                Err(error) if left > 0 && $crate::certificates::trouble::is_bad_nonce(&error) => {
                    left -= 1
                }
                done => break done,
            }
        }
    }};
}
pub(crate) use with_nonces;

/// The account at the CA; made when there is none.
pub(crate) async fn account(app: &App, issuer: &Arc<Issuer>) -> Result<Account, Fault> {
    let _alone = issuer.registering.lock().await;
    let ca = issuer.url();
    if let Some(text) = app.store().acme_account(ca).await? {
        let credentials: AccountCredentials = serde_json::from_str(&text).map_err(|error| {
            of_whole_ca(format!("the account for {ca} cannot be read: {error}"))
        })?;
        let http = Box::new(issuer.calls.clone());
        let opened = Account::builder_with_http(http).from_credentials(credentials).await;
        return opened.map_err(|error| Fault::of_ca(&error, issuer, &[]));
    }
    let contact: Vec<&str> = issuer.config.contact.iter().map(String::as_str).collect();
    let binding = binding(issuer).await?;
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: issuer.config.agree_to_terms,
        only_return_existing: false,
    };
    let mut left = 20;
    let (account, credentials) = loop {
        let builder = Account::builder_with_http(Box::new(issuer.calls.clone()));
        match builder.create(&new, ca.to_owned(), binding.as_ref()).await {
            Ok(made) => break made,
            Err(error) if left > 0 && is_bad_nonce(&error) => left -= 1,
            Err(error) => return Err(Fault::of_ca(&error, issuer, &[])),
        }
    };
    let text = serde_json::to_string(&credentials).expect("credentials always have a JSON form");
    let mut tx = app.store().begin().await?;
    tx.put_acme_account(ca, &text, app.now()).await?;
    tx.commit().await?;
    tracing::info!(ca, account = account.id(), "an account was made at {ca}");
    Ok(account)
}

/// Forgets an account that the CA says it does not know, so that the next try makes one.
pub(crate) async fn forget_if_gone(
    app: &App,
    issuer: &Issuer,
    error: &instant_acme::Error,
) -> Result<(), Fault> {
    if is_account_gone(error) {
        let mut tx = app.store().begin().await?;
        tx.delete_acme_account(issuer.url()).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn binding(issuer: &Issuer) -> Result<Option<ExternalAccountKey>, Fault> {
    let (Some(id), Some(file)) = (&issuer.config.eab_key_id, &issuer.config.eab_key_file) else {
        return Ok(None);
    };
    let unusable = |why: String| of_whole_ca(format!("eab_key_file {}: {why}", file.display()));
    let text =
        tokio::fs::read_to_string(file).await.map_err(|error| unusable(error.to_string()))?;
    let key = decode(text.trim()).ok_or_else(|| unusable("it is not base64url".to_owned()))?;
    Ok(Some(ExternalAccountKey::new(id.clone(), &key)))
}

/// CAs hand keys out in base64url, some with padding or in plain base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(bare).or_else(|_| BASE64_STANDARD.decode(text));
    decoded.ok().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_cas_hand_them_out() {
        assert_eq!(decode("-_8").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode("-_8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode("+/8=").unwrap(), [0xfb, 0xff]);
        for text in ["", "=", "a key!"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
