//! A file of tests that its `main.rs` does not name would never be compiled, and nobody would miss it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn each_main_names_all_files_of_its_folder() {
    for program in ["core", "server", "siege"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(program);
        let main = fs::read_to_string(folder.join("main.rs")).expect("a program");
        let named = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).map(str::to_owned);
        let files = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let files = files.map(|path| path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned());
        let files: BTreeSet<_> = files.filter(|name| name != "main").collect();
        assert_eq!(named.collect::<BTreeSet<_>>(), files, "in {program}");
    }
}
