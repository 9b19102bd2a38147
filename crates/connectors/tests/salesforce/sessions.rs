//! Sessions: every flow, what is refused, what runs out, and refresh tokens that are good for one use.

use crate::support::*;
use concord_connectors::settings::KeepSecret;
use concord_engine::config::SecretText;
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn client_credentials_open_a_session_and_one_is_enough() {
    let org = Org::new().await;
    let connector = org.connect();
    let objects = connector.objects().await.unwrap();
    assert!(objects.contains(&"Account".into()) && objects.contains(&"Contact".into()));
    connector.count(&"Account".into()).await.unwrap();
    assert_eq!(org.requests("/services/oauth2/token"), 1);
}

#[tokio::test]
async fn a_session_that_runs_out_is_renewed_and_the_call_is_made_again() {
    let org = Org::new().await;
    let connector = org.connect();
    connector.count(&"Account".into()).await.unwrap();
    org.fault(json!({"on": {"path": "/query"}, "do": "session_expired"}));
    connector.count(&"Account".into()).await.unwrap();
    assert_eq!(org.requests("/services/oauth2/token"), 2);
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_and_again() {
    let org = Org::new().await;
    let secret = org.secret("client_secret", "wrong");
    let connector = open(&org.connection(json!({"client_secret": secret}), json!({})), None).unwrap();
    for _ in 0..5 {
        let error = connector.objects().await.unwrap_err();
        assert_eq!(error.code, Code::AuthenticationFailed);
        assert!(error.message.contains("invalid_client") && !error.to_string().contains("wrong"), "{error}");
    }
    assert_eq!(org.requests("/services/oauth2/token"), 1);
}

#[tokio::test]
async fn a_refresh_token_that_is_rotated_is_kept_before_it_is_used() {
    let org = Org::new().await;
    let token = org.refresh_token().await;
    let kept: Arc<Mutex<Vec<(String, SecretText)>>> = Arc::default();
    let fails = Arc::new(AtomicBool::new(true));
    let keep: KeepSecret = {
        let (kept, fails) = (Arc::clone(&kept), Arc::clone(&fails));
        Arc::new(move |name: &str, value| {
            let (kept, fails, name) = (Arc::clone(&kept), Arc::clone(&fails), name.to_owned());
            Box::pin(async move {
                if fails.load(Ordering::SeqCst) {
                    return Err(Error::new(Code::StoreFull, "no room"));
                }
                kept.lock().unwrap().push((name, value));
                Ok(())
            })
        })
    };
    let connection = org.connection(json!({"refresh_token": org.secret("token", &token)}), json!({}));
    let connector = open(&connection, Some(keep.clone())).unwrap();
    // What cannot be kept is not used, and not lost either.
    assert_eq!(connector.objects().await.unwrap_err().code, Code::StoreFull);
    assert_eq!(org.requests("/sobjects"), 0);
    fails.store(false, Ordering::SeqCst);
    connector.objects().await.unwrap();
    let (name, value) = kept.lock().unwrap().last().cloned().unwrap();
    assert_eq!(name, "crm/refresh_token");

    // The next run finds the successor where it was kept, and the configured token is dead by now.
    let stored = move |asked: &str| Ok((asked == name).then(|| value.clone()));
    open_stored(&connection, &stored, Some(keep)).unwrap().objects().await.unwrap();
    let dead = open(&connection, Some(Arc::new(|_: &str, _| Box::pin(async { Ok(()) })))).unwrap();
    assert_eq!(dead.objects().await.unwrap_err().code, Code::AuthenticationFailed);
    // Where nothing can be kept a refresh token is left alone.
    assert_eq!(open(&connection, None).unwrap().objects().await.unwrap_err().code, Code::Unsupported);
}

#[tokio::test]
async fn an_assertion_is_signed_as_the_org_expects_it() {
    let (org, key) = Org::with_key().await;
    let secret = org.secret("key.pem", &key);
    let connection = org.connection(json!({"private_key": secret, "username": "integration@acme.example"}), json!({}));
    assert!(open(&connection, None).unwrap().objects().await.unwrap().contains(&"Account".into()));
    let stranger = org.connection(
        json!({"private_key": connection["credentials"]["private_key"], "username": "nobody@acme.example"}),
        json!({}),
    );
    assert_eq!(open(&stranger, None).unwrap().objects().await.unwrap_err().code, Code::AuthenticationFailed);
}

#[tokio::test]
async fn a_days_allowance_that_is_used_up_is_told_with_a_time_to_come_back() {
    let org = Org::new().await;
    let connector = org.connect();
    org.fault(json!({"on": {"path": "/query"}, "do": "request_limit"}));
    let error = connector.count(&"Account".into()).await.unwrap_err();
    assert_eq!(error.code, Code::HostedAllowanceUsed);
    assert!(error.retry_after.is_some());
    connector.count(&"Account".into()).await.unwrap();
    let allowance = connector.allowance().unwrap();
    assert_eq!((allowance.used, allowance.allowed, allowance.share), (2, 100_000, 100_000));
    assert_eq!((allowance.own, allowance.left()), (3, 99_997), "the refused one is counted by us, for all we know it was used");
}

#[tokio::test]
async fn plain_http_goes_to_loopback_alone() {
    let org = Org::new().await;
    let secret = org.secret("client_secret", "simulated-secret");
    for (url, good) in [
        ("http://acme.my.salesforce.com", false),
        ("http://127.0.0.1@acme.example", false),
        ("http://127.0.0.1.example", false),
        ("https://acme.my.salesforce.com", true),
        ("http://localhost:1", true),
        ("http://[::1]:1", true),
        ("http://127.0.0.1:1", true),
    ] {
        let connection = org.connection(json!({"client_secret": secret, "instance_url": url}), json!({}));
        let opened = open(&connection, None).map(drop);
        assert_eq!(opened.as_ref().err().map(|error| error.code), (!good).then_some(Code::ConfigOutOfRange), "{url}");
    }
}
