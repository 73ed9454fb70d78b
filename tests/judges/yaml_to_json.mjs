// Turns the YAML that gitlab-ci-local prints into JSON, with the reader that it brings along.
//
// node yaml_to_json.mjs <the directory of node_modules>  < preview.yml  > preview.json
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "package.json"));
const yaml = require("js-yaml");

const printed = readFileSync(0, "utf8");
// Warnings come first; the file starts with its marker.
const start = printed.startsWith("---\n") ? 0 : printed.indexOf("\n---\n") + 1;
process.stdout.write(JSON.stringify(yaml.load(printed.slice(start))));
