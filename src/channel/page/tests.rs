//! Which paths are the page's, and where a sign-in may lead.

use super::*;

#[test]
fn a_sign_in_leads_to_pages_of_ours_alone() {
    for path in ["/holds", "/holds/h_01jd4q0000000000000000test"] {
        assert!(is_page(path), "{path}");
    }
    for path in [
        "",
        "/",
        "//evil.example",
        "https://evil.example",
        "/holds/../x",
        "/holds/h_",
        "/holds/h_1?x",
        "/holds/H_1",
        "/\\e",
    ] {
        assert!(!is_page(path), "{path}");
    }
}

#[test]
fn what_is_given_twice_is_not_taken() {
    let field = |uri: &'static str| super::field(&Uri::from_static(uri), "to");
    assert_eq!(field("/signin?to=%2Fholds").as_deref(), Some("/holds"));
    assert_eq!(field("/signin?to=/holds&to=/x"), None);
    assert_eq!(field("/signin"), None);
}

#[test]
fn paths_of_the_api_are_not_the_pages() {
    assert!(Page::serves("/holds/h_1") && Page::serves("/signin/callback"));
    for path in ["/v1/holds", "/openapi.json", "/holds/", "/holds/x", "/page.html", "/holds/h_1/"] {
        assert!(!Page::serves(path), "{path}");
    }
}
