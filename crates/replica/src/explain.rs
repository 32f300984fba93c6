//! What does a failed TLS handshake with control mean to whoever runs this machine?
//!
//! Certificates that are "expired" or "not valid yet" are a wrong clock as often as not, and an
//! unknown issuer is a CA that was replaced while the machine was away.

use nigh_proto::{MachineName, Timestamp, report::MachineRole};
use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::UnixTime;

/// What this machine knows of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    pub(crate) name: &'a MachineName,
    pub(crate) role: MachineRole,
    pub(crate) now: Timestamp,
    /// When its certificate ends.
    pub(crate) not_after: Option<Timestamp>,
}

/// A sentence more about `error`, when there is something to say.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static), here: Here<'_>) -> Option<String> {
    let (now, text) = (here.now, crate::link::causes(error));
    let moment = |time: UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_unix_ms(seconds.saturating_mul(1000))
    };
    match tls_error(error) {
        Some(TlsError::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        })) => Some(format!(
            "this machine's clock says {now}, and control's certificate is valid only from {}: \
             the clock is behind, set it (NTP)",
            moment(*not_before)
        )),
        Some(TlsError::InvalidCertificate(CertificateError::ExpiredContext {
            not_after, ..
        })) => Some(format!(
            "this machine's clock says {now}, and control's certificate ended at {}: set the \
             clock (NTP), unless it is right and control's own certificate was not renewed",
            moment(*not_after)
        )),
        Some(TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => Some(format!(
            "control shows a certificate of a CA that this machine does not trust: its CA was \
             replaced while the machine was away, or control was lost and is another one, or this \
             is not control; {}",
            here.rejoin()
        )),
        _ if text.contains("CertificateExpired") => Some(here.expired()),
        _ if text.contains("UnknownCA") => Some(format!(
            "control no longer trusts the CA that signed this machine's certificate, which was \
             replaced while the machine was away; {}",
            here.rejoin()
        )),
        _ => None,
    }
}

impl Here<'_> {
    fn rejoin(&self) -> String {
        let (role, name) = (self.role.label(), self.name);
        format!("make a token with `nigh {role} token {name}` and put it into the join token file")
    }

    fn expired(&self) -> String {
        let (now, rejoin) = (self.now, self.rejoin());
        match self.not_after {
            Some(end) if end <= now => format!(
                "this machine's certificate ended at {end}, while it was off or could not renew \
                 it; {rejoin}"
            ),
            Some(end) => format!(
                "control finds that this machine's certificate is not valid now, though it is \
                 valid until {end} and this machine's clock says {now}: one of the two clocks is \
                 wrong, set it (NTP)"
            ),
            None => format!("this machine's certificate is not valid now; {rejoin}"),
        }
    }
}

/// The TLS error among the causes. I/O errors hide what they wrap from `source`.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e TlsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| wrapped.downcast_ref::<TlsError>()) {
            return Some(found);
        }
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;

    fn told(error: TlsError, not_after_ms: i64) -> Option<String> {
        let name = "fra1".parse().unwrap();
        let here = Here {
            name: &name,
            role: MachineRole::Edge,
            now: Timestamp::from_unix_ms(1_000_000),
            not_after: Some(Timestamp::from_unix_ms(not_after_ms)),
        };
        explain(&io::Error::other(error), here)
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_wrong_clock_is_called_one_with_both_times() {
        let error = CertificateError::NotValidYetContext { time: at(1000), not_before: at(2000) };
        let text = told(TlsError::InvalidCertificate(error), 0).unwrap();
        assert!(text.contains("clock says 1970-01-01T00:16:40"), "{text}");
        assert!(text.contains("valid only from 1970-01-01T00:33:20"), "{text}");
        let error = CertificateError::ExpiredContext { time: at(1000), not_after: at(500) };
        let text = told(TlsError::InvalidCertificate(error), 0).unwrap();
        assert!(text.contains("ended at 1970-01-01T00:08:20"), "{text}");
    }

    #[test]
    fn a_machine_that_was_off_for_too_long_is_told_how_to_come_back() {
        let expired = TlsError::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let text = told(expired.clone(), 999_999).unwrap();
        assert!(text.contains("ended at") && text.contains("nigh edge token fra1"), "{text}");
        let text = told(expired, 1_000_001).unwrap();
        assert!(text.contains("one of the two clocks is wrong"), "{text}");
        let alert = TlsError::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert!(told(alert, 0).unwrap().contains("nigh edge token fra1"));
        let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(told(unknown, 0).unwrap().contains("nigh edge token fra1"));
        assert_eq!(told(TlsError::DecryptError, 0), None);
    }
}
