//! The core as WebAssembly, without a single import, serves npm's `ws` in node. The script that proves it is the purity gate's
//! own; here, that it cannot be run is a failure.

use std::path::Path;
use std::process::Command;

#[test]
fn two_clients_of_npm_talk_through_a_module_that_imports_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live one level below the root");
    let output = Command::new(root.join(".ci/purity")).arg("wasm").output().expect("bash is there");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{printed}\n{errors}", output.status);
    assert!(printed.contains("without a single import") && printed.contains("all is well"), "{printed}\n{errors}");
}
