//! Certificates: which files there are, and what is said of those that cannot be used.

use super::*;
use fanfare_tls::Version;
use std::path::Path;

/// A folder with a certificate and its key, and with the key of another.
struct Material(PathBuf);

impl Material {
    fn new(name: &str) -> Material {
        let folder = std::env::temp_dir().join(format!("fanfare-config-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.join("other.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        Material(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Material {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn without_a_certificate_there_is_no_tls() {
    assert_eq!(loaded(&[], &[]).tls.pairs(), []);
    assert_says(&error(&["--tls-min-version", "1.3"], &[]), &["tls.min_version", "TLS is not spoken at all"]);
}

#[test]
fn certificates_come_from_flags_and_further_ones_from_the_file() {
    let material = Material::new("further");
    let (cert, key) = (material.path("cert.pem"), material.path("key.pem"));
    let file = TomlFile::new(&format!("[[certificates]]\ncert_file = '{cert}'\nkey_file = '{key}'\n"));
    let alone = loaded(&["--config", file.path(), "--tls-min-version", "1.3"], &[]).tls;
    assert_eq!((alone.pairs().len(), alone.version_min), (1, Version::Tls13));
    let flags = ["--config", file.path(), "--tls-cert-file", &cert, "--tls-key-file", &key];
    let both = loaded(&flags, &[]).tls.pairs();
    assert_eq!((both.len(), both[0].cert_file.as_path()), (2, Path::new(&cert)));
    // As a file to start from.
    let shown = TomlFile::new(&try_load(&flags, &[]).unwrap().to_toml());
    assert_eq!(loaded(&["--config", shown.path()], &[]).tls.pairs(), both);
}

#[test]
fn what_cannot_be_used_is_refused_by_its_key_and_its_file() {
    let material = Material::new("wrong");
    let [cert, key, other, none] = ["cert.pem", "key.pem", "other.pem", "none.pem"].map(|name| material.path(name));
    let flags = |cert: &str, key: &str| error(&["--tls-cert-file", cert, "--tls-key-file", key], &[]);
    assert_says(&flags(&cert, &other), &["tls.cert_file", "other.pem is not that of the certificate in"]);
    assert_says(&flags(&none, &key), &["tls.cert_file", "none.pem cannot be read"]);
    assert_says(&error(&["--tls-cert-file", &cert], &[]), &["tls.key_file", "missing beside tls.cert_file"]);
    assert_says(&error(&["--tls-key-file", &key], &[]), &["tls.cert_file", "missing beside tls.key_file"]);
    for (table, wrong) in [
        (format!("cert_file = '{cert}'"), "[[certificates]] number 1"),
        (format!("key_file = '{key}'"), "[[certificates]] number 1: cert_file"),
        (format!("cert_file = '{cert}'\nkey_file = '{other}'"), "is not that of the certificate in"),
    ] {
        let file = TomlFile::new(&format!("[[certificates]]\n{table}\n"));
        assert_says(&error(&["--config", file.path()], &[]), &[wrong]);
    }
}
