//! A user's own automation, with the same browser at the same time.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::browser::or_skip;
use crate::scene::{Scene, data, is, text};

/// Where `install.sh` puts it.
fn playwright() -> Option<std::path::PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let folder = target.join("peers/playwright");
    let found = Some(folder).filter(|it| it.join("node_modules/playwright-core").exists());
    or_skip(found, "playwright-core", "TAPLINE_REQUIRE_PEERS")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_is_not_disturbed_and_its_actions_are_emitted() {
    let Some(folder) = playwright() else { return };
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, _control) = scene.play().await;
    // Beside the package, where its imports are looked for.
    let script = folder.join("second_client.mjs");
    std::fs::write(&script, include_str!("second_client.mjs")).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", scene.port);
    let site = scene.site.url("");
    let sent = tokio::task::spawn_blocking(move || {
        Command::new("node")
            .arg(script)
            .args([endpoint, site])
            .output()
            .unwrap()
    });
    let sent = sent.await.unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let expected: String = (0..5).map(|n| format!("200 form visitor {n}\n")).collect();
    let lines = ["form is there"; 5].join(",");
    assert_eq!(
        String::from_utf8_lossy(&sent.stdout),
        format!("{expected}{lines}\n")
    );

    let is_click = |it: &_| is(it, "interaction_click") && data(it)["selector"] == json!("#buy");
    scene.nth("its clicks", 5, is_click).await;
    for n in 0..5 {
        let url = scene.site.url(&format!("/data.json?playwright={n}"));
        scene
            .until(&url, |it| {
                is(it, "network_response") && data(it)["url"] == url
            })
            .await;
    }
    let holds = scene
        .seen
        .iter()
        .find(|it| text(it).contains("TYPED-SECRET"));
    assert!(holds.is_none(), "{}", text(holds.unwrap()));
}
