//! The flow in which a person consents in a browser: what is asked, what the browser is sent back with, what a code is worth.

use crate::wire::{Answer, World};
use serde_json::json;

/// The verifier and challenge of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BACK: &str = "http://localhost:1717/callback";
const APP: &str = "3MVG9simulated.app";

/// What the browser gets that asks.
async fn asks(world: &World, redirect: &str) -> Answer {
    let query = format!(
        "response_type=code&client_id={APP}&redirect_uri={redirect}&scope=api%20refresh_token&state=a%2Bb&code_challenge={CHALLENGE}\
         &code_challenge_method=S256"
    );
    world.send("GET", &format!("/services/oauth2/authorize?{query}"), &[], "").await.expect("an answer")
}

/// The code that a browser is sent back with.
fn code(answer: &Answer) -> String {
    let location = answer.header("location").expect("sent back");
    let (to, query) = location.split_once('?').expect("with an answer");
    assert_eq!((answer.status, to), (302, BACK));
    assert!(query.ends_with("&state=a%2Bb"), "{query}");
    query.strip_prefix("code=").expect("a code").split('&').next().unwrap().to_string()
}

async fn exchanges(world: &World, code: &str, redirect: &str, verifier: &str) -> Answer {
    let form =
        format!("grant_type=authorization_code&client_id={APP}&code={code}&redirect_uri={redirect}&code_verifier={verifier}");
    let head = [("Content-Type", "application/x-www-form-urlencoded")];
    world.send("POST", "/services/oauth2/token", &head, &form).await.expect("an answer")
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_string())
}

fn is_refused(error: &str) -> (u16, String) {
    (400, error.to_string())
}

#[tokio::test]
async fn a_code_is_exchanged_once_by_whoever_knows_the_verifier() {
    let world = World::new().await;
    let brought = code(&asks(&world, BACK).await);
    let granted = exchanges(&world, &brought, BACK, VERIFIER).await;
    assert_eq!(granted.status, 200, "{}", granted.body);
    let token = granted.json()["refresh_token"].as_str().expect("a refresh token").to_string();
    assert_eq!(refusal(&exchanges(&world, &brought, BACK, VERIFIER).await), is_refused("invalid_grant"));
    // The token is good, once: its successor comes with its use.
    let form = format!("grant_type=refresh_token&client_id={APP}&refresh_token={token}");
    let renewed = world.send("POST", "/services/oauth2/token", &[], &form).await.unwrap();
    assert!(renewed.json()["refresh_token"].as_str().is_some_and(|next| next != token), "{}", renewed.body);
}

#[tokio::test]
async fn another_verifier_another_address_and_an_old_code_are_refused() {
    let world = World::new().await;
    for (redirect, verifier, error) in [
        (BACK, "another", "invalid_grant"),
        (BACK, "", "invalid_grant"),
        ("http://localhost:1/x", VERIFIER, "redirect_uri_mismatch"),
    ] {
        let brought = code(&asks(&world, BACK).await);
        assert_eq!(refusal(&exchanges(&world, &brought, redirect, verifier).await), is_refused(error), "{redirect} {verifier}");
    }
    let brought = code(&asks(&world, BACK).await);
    world.control("POST", "/clock", json!({"advance_ms": 15 * 60_000 + 1})).await;
    assert_eq!(refusal(&exchanges(&world, &brought, BACK, VERIFIER).await), is_refused("invalid_grant"));
}

#[tokio::test]
async fn a_person_can_deny_and_an_app_is_sent_back_only_where_it_said() {
    let world = World::new().await;
    world.control("POST", "/consent", json!({"given": false})).await;
    let location = asks(&world, BACK).await.header("location").expect("sent back");
    assert!(location.starts_with(&format!("{BACK}?error=access_denied&")) && location.ends_with("&state=a%2Bb"), "{location}");
    world.control("POST", "/consent", json!({"given": true})).await;
    code(&asks(&world, BACK).await);
    let app = json!({
        "client_id": APP, "client_secret": "simulated-secret", "username": "integration@acme.example", "callbacks": [BACK]
    });
    world.control("POST", "/apps", app).await;
    code(&asks(&world, BACK).await);
    // Nobody is sent to a stranger, not even with an error.
    let elsewhere = asks(&world, "http://localhost:1718/callback").await;
    assert_eq!((refusal(&elsewhere), elsewhere.header("location")), (is_refused("redirect_uri_mismatch"), None));
}
