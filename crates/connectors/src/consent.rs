//! A person's consent: somebody who may use a system lets us act in their name, once, in a browser (OAuth 2.0, RFC 6749
//! §4.1, with PKCE, RFC 7636). Owns what every vendor's flow has in common: the address that the browser opens, the answer
//! that it brings back, and the proof that both belong together. Opens no port and no browser, and keeps nothing.

use crate::percent::{form, pairs};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use futures_util::future::BoxFuture;

/// Bytes of chance in the verifier and in the state: as many as a key.
const CHANCE_BYTES: usize = 32;
/// The most characters of a vendor's words that are passed on.
const WORDS_MAX: usize = 200;

/// What a vendor has to say about its flow.
pub struct Application {
    /// The page that asks the person, without a query.
    pub page: String,
    /// The application that asks.
    pub client_id: SecretText,
    /// What it asks to be allowed.
    pub scopes: Vec<String>,
    /// The name under which the store keeps the token that comes of it; the connection refers to it.
    pub keep_as: String,
    /// Makes a token of a code.
    pub exchange: Box<dyn Exchange>,
}

/// Makes a token of the code that the browser brings.
pub trait Exchange: Send + Sync {
    /// Good for one call: the vendor takes a code once.
    fn exchange<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<Granted>>;
}

/// What is exchanged for a token.
pub struct Proof {
    /// The code that the browser brought.
    pub code: SecretText,
    /// Where it was sent to.
    pub redirect: String,
    /// What only whoever asked can know: its digest was in the question.
    pub verifier: SecretText,
}

/// What the vendor gave.
pub struct Granted {
    /// The token that the connection uses from now on.
    pub refresh_token: SecretText,
    /// The instance that the person chose, where the vendor tells it.
    pub instance_url: Option<String>,
    /// The vendor's id of the account that it belongs to.
    pub account: Option<String>,
    /// The vendor's id of the person.
    pub user: Option<String>,
}

/// A question that a person is asked.
pub struct Consent {
    /// What the browser opens. Holds no secret.
    pub url: String,
    /// The name under which the store keeps the token that comes of it.
    pub keep_as: String,
    redirect: String,
    state: SecretText,
    verifier: SecretText,
    exchange: Box<dyn Exchange>,
}

impl Consent {
    /// A question whose answer the browser brings to `redirect`.
    pub fn ask(application: Application, redirect: &str) -> Result<Consent> {
        let (state, verifier) = (chance()?, chance()?);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", application.client_id.expose()),
            ("redirect_uri", redirect),
            ("scope", &application.scopes.join(" ")),
            ("state", state.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let Application { page, keep_as, exchange, .. } = application;
        Ok(Consent { url: format!("{page}?{query}"), keep_as, redirect: redirect.to_owned(), state, verifier, exchange })
    }

    /// Whether the query with which a browser came back belongs to this question at all.
    pub fn is_answer(&self, query: &str) -> bool {
        let answer = pairs(query);
        let state = answer.iter().find(|(key, _)| key == "state").map_or("", |(_, value)| value.as_str());
        verify_slices_are_equal(state.as_bytes(), self.state.expose().as_bytes()).is_ok()
    }

    /// The token that comes of the query with which the browser came back. Nothing is believed of an answer that is not
    /// this question's.
    pub async fn answered(&self, query: &str) -> Result<Granted> {
        let answer = pairs(query);
        let of = |name: &str| answer.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if !self.is_answer(query) {
            let message = "what the browser brought is no answer to this question: it carries another state";
            return Err(Error::new(Code::ConsentForeign, message));
        }
        if let Some(error) = of("error") {
            let told = told(error, of("error_description").unwrap_or(""));
            return Err(match error {
                "access_denied" => Error::new(Code::ConsentDenied, format!("the person did not consent: {told}")),
                _ => Error::new(Code::ConsentRefused, format!("the person was not asked: {told}")),
            });
        }
        let code = of("code").filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| Error::new(Code::ConsentRefused, "the browser brought no code"))?;
        let proof = Proof { code: SecretText::new(code), redirect: self.redirect.clone(), verifier: self.verifier.clone() };
        self.exchange.exchange(&proof).await
    }
}

/// A vendor's code and words, short and without anything that a terminal would obey.
pub fn told(code: &str, words: &str) -> String {
    let plain = |text: &str| text.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect::<String>();
    if words.is_empty() { plain(code) } else { format!("{} ({})", plain(code), plain(words)) }
}

fn chance() -> Result<SecretText> {
    let mut bytes = [0_u8; CHANCE_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|error| Error::new(Code::Internal, "no chance is to be had").because(error))?;
    Ok(SecretText::new(URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps what it was given.
    #[derive(Clone, Default)]
    struct Vendor(Arc<Mutex<Vec<(String, String, String)>>>);

    impl Exchange for Vendor {
        fn exchange<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<Granted>> {
            let seen = (proof.code.expose().to_owned(), proof.redirect.clone(), proof.verifier.expose().to_owned());
            self.0.lock().unwrap().push(seen);
            Box::pin(async {
                Ok(Granted { refresh_token: SecretText::new("token"), instance_url: None, account: None, user: None })
            })
        }
    }

    fn asked() -> (Consent, Vendor, Vec<(String, String)>) {
        let vendor = Vendor::default();
        let application = Application {
            page: "https://vendor.example/authorize".into(),
            client_id: SecretText::new("app"),
            scopes: vec!["api".into(), "refresh_token".into()],
            keep_as: "crm_token".into(),
            exchange: Box::new(vendor.clone()),
        };
        let consent = Consent::ask(application, "http://localhost:1/callback").unwrap();
        let query = pairs(consent.url.split_once('?').unwrap().1);
        (consent, vendor, query)
    }

    fn of<'a>(query: &'a [(String, String)], name: &str) -> &'a str {
        &query.iter().find(|(key, _)| key == name).unwrap().1
    }

    #[tokio::test]
    async fn the_verifier_is_what_the_challenge_was_made_of_and_no_two_questions_are_alike() {
        let (consent, vendor, query) = asked();
        assert_eq!((of(&query, "scope"), of(&query, "code_challenge_method")), ("api refresh_token", "S256"));
        let state = of(&query, "state");
        let granted = consent.answered(&format!("code=a%2Bb&state={state}")).await.unwrap();
        assert_eq!(granted.refresh_token.expose(), "token");
        let (code, redirect, verifier) = vendor.0.lock().unwrap()[0].clone();
        assert_eq!((code.as_str(), redirect.as_str()), ("a+b", "http://localhost:1/callback"));
        assert_eq!(URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())), of(&query, "code_challenge"));
        // RFC 7636 wants 43 characters at the least, of the unreserved ones.
        assert!(verifier.len() >= 43 && !consent.url.contains(&verifier), "{verifier}");
        let (_, _, other) = asked();
        assert!(of(&other, "state") != state && of(&other, "code_challenge") != of(&query, "code_challenge"));
    }

    #[tokio::test]
    async fn an_answer_of_another_state_or_of_none_is_not_believed() {
        let (consent, vendor, query) = asked();
        let state = of(&query, "state");
        for answer in ["code=c", "code=c&state=", "code=c&state=x", "error=access_denied", &format!("code=c&state={state}x")] {
            assert_eq!(consent.answered(answer).await.err().unwrap().code, Code::ConsentForeign, "{answer}");
        }
        assert!(vendor.0.lock().unwrap().is_empty(), "no code was exchanged");
    }

    #[tokio::test]
    async fn a_no_and_a_page_that_could_not_ask_are_told_apart() {
        let (consent, _, query) = asked();
        let error =
            async |answer: &str| consent.answered(&format!("{answer}&state={}", of(&query, "state"))).await.err().unwrap();
        let denied = error("error=access_denied&error_description=end-user+denied+authorization").await;
        assert_eq!(denied.code, Code::ConsentDenied);
        assert!(denied.message.ends_with("access_denied (end-user denied authorization)"), "{denied}");
        let refused = error("error=invalid_scope%1b%5b31m").await;
        assert_eq!((refused.code, refused.message.contains('\u{1b}')), (Code::ConsentRefused, false), "{refused}");
        assert_eq!(error("code=").await.code, Code::ConsentRefused);
    }
}
