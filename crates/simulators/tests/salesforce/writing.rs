//! Doors that the clients do not try: composites that are one whole, guards by date, versions, hosts, jobs that wait.

use super::wire::World;
use serde_json::json;

#[tokio::test]
async fn a_composite_uses_what_came_before_and_is_one_whole_if_asked() {
    let world = World::new().await;
    let body = |last: &str| {
        json!({"allOrNone": true, "compositeRequest": [
            {"method": "POST", "url": "/services/data/v65.0/sobjects/Account", "referenceId": "a", "body": {"Name": "A"}},
            {"method": "POST", "url": "/services/data/v65.0/sobjects/Contact", "referenceId": "c",
                "body": {"LastName": last, "AccountId": "@{a.id}"}}]})
    };
    let answer = world.call("POST", "/composite", body("C")).await.expect("an answer").json();
    let parts = answer["compositeResponse"].as_array().expect("answers");
    assert!(parts.iter().all(|part| part["httpStatusCode"] == 201), "{answer}");
    let answer = world.call("POST", "/composite", body("")).await.expect("an answer").json();
    assert_eq!(answer["compositeResponse"][0]["body"][0]["errorCode"], "PROCESSING_HALTED");
    assert_eq!(answer["compositeResponse"][1]["body"][0]["errorCode"], "REQUIRED_FIELD_MISSING");
    assert_eq!(world.accounts().await, 1);
}

#[tokio::test]
async fn a_record_that_changed_since_is_not_written() {
    let world = World::new().await;
    let id = world.account("A").await;
    let path = format!("/sobjects/Account/{id}");
    let patch = |headers| world.call_with("PATCH", &path, headers, json!({"Phone": "1"}));
    let long_ago = [("If-Unmodified-Since", "Wed, 21 Oct 2015 07:28:00 GMT")];
    assert_eq!(patch(&long_ago).await.expect("an answer").status, 412);
    let far = [("If-Unmodified-Since", "Wed, 21 Oct 2065 07:28:00 GMT")];
    assert_eq!(patch(&far).await.expect("an answer").status, 204);

    // Accounts have tags: exact, within the same second too.
    let tag = world.call("GET", &path, json!(null)).await.expect("an answer").header("etag").expect("a tag");
    let exact = [("If-Match", tag.as_str())];
    let write = |phone: &str| world.call_with("PATCH", &path, &exact, json!({"Phone": phone}));
    assert_eq!(write("2").await.expect("an answer").status, 204);
    assert_eq!(write("3").await.expect("an answer").status, 412);
}

#[tokio::test]
async fn numbers_and_moments_have_the_vendors_form() {
    let world = World::new().await;
    let made =
        world.call("POST", "/sobjects/Account", json!({"Name": "A", "AnnualRevenue": 350_000_000})).await.expect("an answer");
    let id = made.json()["id"].as_str().expect("an id").to_string();
    let body = world.call("GET", &format!("/sobjects/Account/{id}"), json!(null)).await.expect("an answer").body;
    assert!(body.contains(r#""AnnualRevenue":3.5E8"#), "{body}");
    let stamp = &body[body.find(r#""SystemModstamp":""#).expect("a stamp") + 18..][..28];
    assert!(stamp.ends_with(".000+0000"), "{stamp}");
}

#[tokio::test]
async fn unknown_versions_and_unknown_doors_are_refused_in_the_vendors_words() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.token);
    let answer = world.send("GET", "/services/data/v12.0/limits", &[("Authorization", &bearer)], "").await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"));
    assert_eq!(world.call("GET", "/sobjects/Nope/describe", json!(null)).await.expect("an answer").status, 404);
    assert_eq!(world.send("GET", "/services/data/v65.0/limits", &[], "").await.expect("an answer").status, 401);
}

#[tokio::test]
async fn the_login_host_does_not_take_client_credentials() {
    let world = World::new().await;
    let form = "grant_type=client_credentials&client_id=3MVG9simulated.app&client_secret=simulated-secret";
    let (login, own) = ([("Host", "login.salesforce.com")], [("Host", "acme.my.salesforce.com")]);
    let refused = world.send("POST", "/services/oauth2/token", &login, form).await.expect("an answer");
    assert_eq!((refused.status, refused.json()["error"].as_str().expect("a code")), (400, "invalid_grant"));
    let granted = world.send("POST", "/services/oauth2/token", &own, form).await.expect("an answer").json();
    assert_eq!(granted["instance_url"], "https://acme.my.salesforce.com");
}

#[tokio::test]
async fn a_code_is_bound_to_its_verifier_and_used_once() {
    let world = World::new().await;
    // Verifier and challenge of RFC 7636, appendix B.
    let (verifier, challenge) = ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let page = format!(
        "/services/oauth2/authorize?response_type=code&client_id=3MVG9simulated.app&redirect_uri=http://localhost/cb\
         &scope=api%20refresh_token&state=s&code_challenge={challenge}&code_challenge_method=S256"
    );
    let mut granted = Vec::new();
    for given in ["wrong", verifier] {
        let location = world.send("GET", &page, &[], "").await.expect("an answer").header("location").expect("a location");
        let code = location.split("code=").nth(1).and_then(|rest| rest.split('&').next()).expect("a code").to_string();
        let form = format!(
            "grant_type=authorization_code&client_id=3MVG9simulated.app&redirect_uri=http://localhost/cb&code={code}&code_verifier={given}"
        );
        for _ in 0..2 {
            granted.push(world.send("POST", "/services/oauth2/token", &[], &form).await.expect("an answer").status);
        }
    }
    assert_eq!(granted, [400, 400, 200, 400]);
}

#[tokio::test]
async fn a_job_that_is_held_waits_and_can_be_aborted() {
    let world = World::new().await;
    world.control("POST", "/jobs", json!({"held": true})).await;
    let job =
        world.call("POST", "/jobs/ingest", json!({"object": "Account", "operation": "insert"})).await.expect("an answer").json();
    let path = format!("/jobs/ingest/{}", job["id"].as_str().expect("an id"));
    let bearer = format!("Bearer {}", world.token);
    let upload = format!("/services/data/v65.0{path}/batches");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/csv")];
    assert_eq!(world.send("PUT", &upload, &headers, "Name\nA\n").await.expect("an answer").status, 201);
    assert_eq!(world.send("PUT", &upload, &headers, "Name\nA\n").await.expect("an answer").code(), "INVALIDJOBSTATE");
    world.call("PATCH", &path, json!({"state": "UploadComplete"})).await.expect("an answer");
    let state = world.call("GET", &path, json!(null)).await.expect("an answer").json();
    assert_eq!(state["state"], "UploadComplete");
    world.call("PATCH", &path, json!({"state": "Aborted"})).await.expect("an answer");
    world.control("POST", "/jobs", json!({"held": false})).await;
    assert_eq!(world.call("GET", &path, json!(null)).await.expect("an answer").json()["state"], "Aborted");
    assert_eq!(world.accounts().await, 0);
}

#[tokio::test]
async fn a_value_that_is_not_unique_is_named_by_its_field_in_collections_alone() {
    let world = World::new().await;
    let schema = json!({"objects": [{"name": "Account", "fields": [{"name": "Ext__c", "type": "string", "externalId": true, "unique": true}]}]});
    world.control("POST", "/schema", schema).await;
    let record = json!({"Name": "A", "Ext__c": "E1"});
    assert_eq!(world.call("POST", "/sobjects/Account", record.clone()).await.expect("an answer").status, 201);
    let single = world.call("POST", "/sobjects/Account", record.clone()).await.expect("an answer").json();
    assert_eq!((&single[0]["errorCode"], &single[0]["fields"]), (&json!("DUPLICATE_VALUE"), &json!([])), "{single}");
    let words = single[0]["message"].as_str().expect("words");
    assert!(words.starts_with("duplicate value found: Ext__c duplicates value on record with id: 001"), "{words}");
    let records = json!({"records": [{"attributes": {"type": "Account"}, "Name": "A", "Ext__c": "E1"}]});
    let several = world.call("POST", "/composite/sobjects", records).await.expect("an answer").json();
    assert_eq!(several[0]["errors"][0]["fields"], json!(["Ext__c"]), "{several}");
}
