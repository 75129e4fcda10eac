// Fails if a WebAssembly module imports anything: node imports.mjs <module>

import { readFileSync } from "node:fs";

const path = process.argv[2];
const module = new WebAssembly.Module(readFileSync(path));
const imports = WebAssembly.Module.imports(module);
if (imports.length > 0) {
  console.error(`${path} imports what a pure core must not need:`);
  for (const { module: from, name, kind } of imports) console.error(`  ${kind} ${from}.${name}`);
  process.exit(1);
}
// Linked is not yet alive: it runs, too.
const { drive } = new WebAssembly.Instance(module).exports;
if (drive(1_000n) === 0n) throw new Error("the core said nothing");
console.log(`the core links without a single import, and runs (${path})`);
