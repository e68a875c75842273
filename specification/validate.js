// Validates an AsyncAPI document with AsyncAPI's parser, which its command-line tool also uses.
const { Parser, fromFile } = require("@asyncapi/parser");

async function validate(path) {
  const { document, diagnostics } = await fromFile(new Parser(), path).parse();
  for (const { code, message, path: keys, range } of diagnostics) {
    console.log(`${path}:${range.start.line + 1}: ${code}: ${message} (${keys.join(".")})`);
  }
  console.log(document ? `${path}: valid` : `${path}: not valid`);
  process.exitCode = document ? 0 : 1;
}

validate(process.argv[2]);
