//! The list of devices on the account page.

use reqwest::StatusCode;
use webapp::StoreUrl;

use crate::site::Site;

/// The addresses that the list's buttons send forms to.
fn buttons(page: &str) -> Vec<String> {
    let forms = page.split("action=\"/account/devices/").skip(1);
    let ends = forms.map(|form| form.split('"').next().unwrap_or_default());
    ends.map(|end| format!("/account/devices/{end}")).collect()
}

#[actix_web::test]
async fn a_user_ends_one_device_and_then_all_others() {
    let (site, _folder) = Site::start().await;
    let laptop = site.visitor();
    laptop.register("ada").await;
    assert_eq!(buttons(&laptop.page("/account").await), [""; 0]);
    let [phone, tablet, desk] = [site.visitor(), site.visitor(), site.visitor()];
    for visitor in [&phone, &tablet, &desk] {
        visitor.log_in("ada").await;
    }
    let page = laptop.page("/account").await;
    assert_eq!(page.matches("this device").count(), 1);
    // Each of the others, the latest first, and all of them.
    let ends = buttons(&page);
    assert_eq!(ends.len(), 4, "{page}");
    assert_eq!(laptop.submit(&ends[0], &[]).await, "/account");
    assert!(!desk.is_logged_in().await);
    assert!(phone.is_logged_in().await && tablet.is_logged_in().await);
    assert!(
        laptop
            .page("/account")
            .await
            .contains("That device is logged out.")
    );
    // Once more, from a page that was open already.
    laptop.submit(&ends[0], &[]).await;
    assert!(laptop.page("/account").await.contains("logged out already"));
    laptop.submit("/account/devices/others/end", &[]).await;
    assert!(!phone.is_logged_in().await && !tablet.is_logged_in().await);
    assert!(laptop.is_logged_in().await);
    site.stop().await;
}

#[actix_web::test]
async fn a_list_that_is_cut_says_so() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    for _ in 0..48 {
        site.visitor().log_in("ada").await;
    }
    assert!(!ada.page("/account").await.contains("The last 50 logins"));
    for _ in 0..2 {
        site.visitor().log_in("ada").await;
    }
    let page = ada.page("/account").await;
    assert!(page.contains("The last 50 logins are shown."), "{page}");
    // Each that is shown, and all others: whoever asks is not among the last.
    assert_eq!(buttons(&page).len(), 51);
    site.stop().await;
}

#[actix_web::test]
async fn nobody_ends_anothers_device() {
    let (site, _folder) = Site::start().await;
    let [ada, other, eve] = [site.visitor(), site.visitor(), site.visitor()];
    ada.register("ada").await;
    other.log_in("ada").await;
    eve.register("eve").await;
    let ends = buttons(&ada.page("/account").await);
    eve.submit(&ends[0], &[]).await;
    site.visitor().submit(&ends[0], &[]).await;
    site.visitor()
        .submit("/account/devices/others/end", &[])
        .await;
    assert!(other.is_logged_in().await);
    let bad = eve.post("/account/devices/nonsense/end", &[]).await;
    assert_eq!(bad.status(), StatusCode::NOT_FOUND);
    site.stop().await;
}

#[actix_web::test]
async fn sessions_in_cookies_have_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::Cookie).await;
    let ada = site.visitor();
    ada.register("ada").await;
    assert!(!ada.page("/account").await.contains("Your devices"));
    // There are no such pages either, whatever somebody sends.
    let one = format!("/account/devices/{}/end", "A".repeat(43));
    for path in [one.as_str(), "/account/devices/others/end"] {
        for visitor in [&ada, &site.visitor()] {
            let answer = visitor.post(path, &[]).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
    assert!(ada.is_logged_in().await);
    site.stop().await;
}
