use super::*;

async fn read(source: SecretSource) -> Result<String, String> {
    source.read().await.map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
}

fn words(words: &[&str]) -> SecretSource {
    SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
}

#[tokio::test]
async fn a_secret_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    for text in ["one\n", "two", "three\r\n", " four \n"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(read(SecretSource::File(file.clone())).await.as_deref(), Ok(text.trim_end_matches(['\r', '\n'])));
    }
    assert_eq!(read(words(&["printf", "a b\n"])).await.as_deref(), Ok("a b"));
    assert_eq!(read(SecretSource::Environment("PATH".to_owned())).await, Ok(std::env::var("PATH").unwrap()));
}

#[tokio::test]
async fn what_goes_wrong_is_said_without_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    assert!(read(SecretSource::File(file.clone())).await.unwrap_err().contains("cannot read"));
    std::fs::write(&file, "\n").unwrap();
    assert!(read(SecretSource::File(file)).await.unwrap_err().contains("is empty"));
    assert!(read(SecretSource::Environment("NO_SUCH_VARIABLE".to_owned())).await.unwrap_err().contains("is not set"));
    let failed = read(words(&["sh", "-c", "echo secret; exit 3"])).await.unwrap_err();
    assert!(failed.contains("exit status: 3") && !failed.contains("secret"), "{failed}");
    assert!(read(words(&["/nowhere/program"])).await.unwrap_err().contains("cannot run"));
    assert!(read(SecretSource::None).await.unwrap_err().contains("none is configured"));
}
