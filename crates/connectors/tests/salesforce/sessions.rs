//! Sessions: every flow, what is refused, what runs out, and refresh tokens that are good for one use.

use crate::support::*;
use concord_connectors::keeping::{Acting, Keep};
use concord_connectors::settings::AskedChanges;
use concord_engine::config::{ChangeDetection, SecretText};
use concord_engine::connector::Connector;
use concord_engine::error::{Class, Code};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
async fn a_login_that_is_to_be_tried_again_is_no_refusal() {
    let org = Org::new().await;
    let connector = org.connect();
    let busy = json!({"error": "unknown_error", "error_description": "retry your request"}).to_string();
    org.fault(json!({"on": {"path": "/services/oauth2/token"}, "do": {"answer": {"status": 400, "body": busy}}}));
    let error = connector.objects().await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::Unreachable, Class::Transient), "{error}");
    connector.objects().await.unwrap();
    assert_eq!(org.requests("/services/oauth2/token"), 2);
}

#[tokio::test]
async fn a_refresh_token_that_is_rotated_is_kept_before_it_is_used() {
    let org = Org::new().await;
    let token = org.refresh_token().await;
    let shelf = Arc::new(Shelf::default());
    shelf.is_full.store(true, Ordering::SeqCst);
    let connection = org.connection(json!({"refresh_token": org.secret("token", &token)}), json!({}));
    let connector = shelf.open(&connection).unwrap();
    // What cannot be kept is not used, and not lost either.
    assert_eq!(connector.objects().await.unwrap_err().code, Code::StoreFull);
    assert_eq!(org.requests("/sobjects"), 0);
    shelf.is_full.store(false, Ordering::SeqCst);
    connector.objects().await.unwrap();
    assert!(shelf.kept("crm/refresh_token").is_some());

    // The next run finds the successor where it was kept, and the configured token is dead by now.
    shelf.open(&connection).unwrap().objects().await.unwrap();
    let dead = Arc::new(Shelf::default()).open(&connection).unwrap();
    assert_eq!(dead.objects().await.unwrap_err().code, Code::AuthenticationFailed);
    // Where nothing can be kept a refresh token is left alone.
    let logins = org.requests("/services/oauth2/token");
    shelf.is_locked.store(true, Ordering::SeqCst);
    for connector in [open(&connection, None).unwrap(), shelf.open(&connection).unwrap()] {
        assert_eq!(connector.objects().await.unwrap_err().code, Code::HostedTokenInUse);
    }
    assert_eq!(org.requests("/services/oauth2/token"), logins);
}

/// A connection for which a person consents, and where the consent is kept.
async fn consented(org: &Org) -> (Json, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    shelf.give("crm_token", &org.refresh_token().await);
    (org.connection(json!({"refresh_token": {"secret": "crm_token"}}), json!({})), shelf)
}

#[tokio::test]
async fn a_consent_that_is_given_while_a_token_is_renewed_stays_and_is_the_one_that_is_used() {
    let org = Org::new().await;
    let (connection, shelf) = consented(&org).await;
    let connector = shelf.open(&connection).unwrap();
    connector.objects().await.unwrap();
    let anew = org.refresh_token().await;
    *shelf.given_meanwhile.lock().unwrap() = Some(("crm_token".into(), SecretText::new(anew.clone())));
    org.fault(json!({"on": {"path": "/query"}, "do": "session_expired"}));
    connector.count(&"Account".into()).await.unwrap();
    assert_eq!(org.tokens_shown().last(), Some(&anew), "the login was made anew with it");
    let kept = shelf.kept("crm_token").unwrap();
    // What is kept is its successor: the one before it is dead, and this one opens a session.
    assert_ne!(kept.expose(), anew);
    shelf.open(&connection).unwrap().objects().await.unwrap();
    assert_eq!(org.tokens_shown().last().map(String::as_str), Some(kept.expose()));
}

#[tokio::test]
async fn a_new_consent_is_used_where_nothing_happens_that_would_need_a_call() {
    for changes in [ChangeDetection::Auto, ChangeDetection::Polling] {
        let org = Org::new().await;
        let (connection, shelf) = consented(&org).await;
        let every = Some(Duration::from_secs(3_600));
        let stored = |name: &str| Ok(shelf.kept(name));
        let keep: Arc<dyn Keep> = Arc::clone(&shelf) as Arc<dyn Keep>;
        let connector = open_asked(&connection, &stored, Some(keep), AskedChanges { how: changes, every }).unwrap();
        let feed = prepared(&connector, &accounts(&["Name"])).await;
        let mut stream = connector.capture(&feed, &feed.position).await.unwrap();
        // The polled one has its look.
        stream.next(LIMITS).await.unwrap();
        for anew in [org.refresh_token().await, org.refresh_token().await] {
            shelf.give("another_token", "of another connection");
            let logins = org.tokens_shown().len();
            shelf.give("crm_token", &anew);
            let is_used = async {
                while org.tokens_shown().len() == logins {
                    assert!(stream.next(LIMITS).await.unwrap().events.is_empty(), "nothing happens");
                }
            };
            tokio::time::timeout(PATIENCE, is_used).await.expect("the new consent is used");
            assert_eq!(org.tokens_shown().last(), Some(&anew));
        }
    }
}

#[tokio::test]
async fn a_new_consent_is_used_without_a_restart_whether_the_old_one_is_good_or_not() {
    let org = Org::new().await;
    let (connection, shelf) = consented(&org).await;
    let connector = shelf.open(&connection).unwrap();
    connector.objects().await.unwrap();
    let second = org.refresh_token().await;
    shelf.give("crm_token", &second);
    connector.objects().await.unwrap();
    assert_eq!(org.tokens_shown().last(), Some(&second), "the session of the old one is left");
    let logins = org.tokens_shown().len();
    shelf.give("another_token", "of another connection");
    connector.objects().await.unwrap();
    assert_eq!(org.tokens_shown().len(), logins);

    org.simulator.org.state().auth.end_all_grants();
    assert_eq!(connector.objects().await.unwrap_err().code, Code::AuthenticationFailed);
    assert_eq!(connector.objects().await.unwrap_err().code, Code::AuthenticationFailed);
    let third = org.refresh_token().await;
    shelf.give("crm_token", &third);
    connector.objects().await.unwrap();
    assert_eq!(org.tokens_shown().last(), Some(&third), "a refusal of the old one does not hold it back");
}

#[tokio::test]
async fn a_token_that_somebody_else_has_used_up_is_replaced_by_the_successor_that_they_kept() {
    let org = Org::new().await;
    let (connection, shelf) = consented(&org).await;
    let (one, other) = (shelf.open(&connection).unwrap(), shelf.open(&connection).unwrap());
    one.objects().await.unwrap();
    other.objects().await.unwrap();
    org.fault(json!({"on": {"path": "/query"}, "do": "session_expired"}));
    one.count(&"Account".into()).await.unwrap();
    let shown = org.tokens_shown();
    let different: std::collections::BTreeSet<&String> = shown.iter().collect();
    assert_eq!((shown.len(), different.len()), (3, 3), "each token was used once");
}

#[tokio::test]
async fn a_login_for_another_org_than_the_one_that_is_known_is_none() {
    let org = Org::new().await;
    let secret = org.secret("client_secret", "simulated-secret");
    let connection = org.connection(json!({"client_secret": secret}), json!({}));
    let shelf = Arc::new(Shelf::default());
    shelf.open(&connection).unwrap().objects().await.unwrap();
    let known = shelf.acting.lock().unwrap()["crm"].account.clone();
    assert_eq!(known, org.simulator.org.id.to_string());

    shelf.acting.lock().unwrap().insert("crm".into(), Acting::new("00D000000000000AAA"));
    let (asked, logins) = (org.requests("/sobjects"), org.requests("/services/oauth2/token"));
    let connector = shelf.open(&connection).unwrap();
    for _ in 0..3 {
        let error = connector.objects().await.unwrap_err();
        assert_eq!(error.code, Code::HostedOtherAccount);
        assert!(error.message.contains(&known) && error.message.contains("00D000000000000AAA"), "{error}");
    }
    assert_eq!(org.requests("/sobjects"), asked, "nothing was asked of it");
    assert_eq!(org.requests("/services/oauth2/token"), logins + 1, "and it was not tried again and again");
}

#[tokio::test]
async fn a_first_login_is_for_the_configured_instance_and_a_later_one_for_its_org_wherever_that_is() {
    let org = Org::new().await;
    let secret = org.secret("client_secret", "simulated-secret");
    let port = org.simulator.addresses.http.port();
    let (here, elsewhere) = (format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}"));
    // The vendor answers with the address that the login was sent to.
    let credentials = json!({"client_secret": secret, "login_url": here, "instance_url": elsewhere});
    let moved = org.connection(credentials, json!({}));
    let shelf = Arc::new(Shelf::default());
    let error = shelf.open(&moved).unwrap().objects().await.unwrap_err();
    assert_eq!(error.code, Code::HostedOtherAccount);
    assert!(error.message.contains(&here) && error.message.contains(&elsewhere), "{error}");
    assert_eq!(org.requests("/sobjects"), 0);
    shelf.open(&org.connection(json!({"client_secret": secret}), json!({}))).unwrap().objects().await.unwrap();
    shelf.open(&moved).unwrap().objects().await.unwrap();
    shelf.is_locked.store(true, Ordering::SeqCst);
    shelf.open(&moved).unwrap().objects().await.unwrap();
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
async fn too_many_calls_at_once_are_no_allowance_that_is_used_up() {
    let org = Org::new().await;
    let connector = org.connect();
    for (usage, code, seconds) in [
        ("18/15000", Code::Throttled, 15),
        ("15000/15000", Code::HostedAllowanceUsed, 900),
        ("nonsense", Code::HostedAllowanceUsed, 900),
    ] {
        let body = r#"[{"message":"ConcurrentRequests (Concurrent API Requests) Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
        let headers = json!({"Sforce-Limit-Info": format!("api-usage={usage}")});
        org.fault(json!({"on": {"path": "/query"}, "do": {"answer": {"status": 403, "body": body, "headers": headers}}}));
        let error = connector.count(&"Account".into()).await.unwrap_err();
        assert_eq!((error.code, error.retry_after), (code, Some(Duration::from_secs(seconds))), "{usage}");
    }
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
