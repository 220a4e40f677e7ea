/** Do this in code: what was just done, for a terminal, in Python and in TypeScript. */
/**
 * @typedef {object} Call
 * @property {"GET" | "POST"} method
 * @property {string} path with its query
 * @property {unknown} [json]
 * @property {Record<string, string>} [fields] of a form
 * @property {string} [file] name of the file in the form
 * @property {boolean} [waits] whether the job that comes of it is followed
 */

/** @type {[string, (call: Call, root: string) => string][]} */
export const LANGUAGES = [
  ["curl", curl],
  ["Python", python],
  ["TypeScript", typescript],
];

/** @param {string} text */
function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {unknown} value */
function literal(value) {
  return JSON.stringify(value);
}

/**
 * @param {Call} call
 * @param {string} root
 */
function curl({ method, path, json, fields = {}, file, waits }, root) {
  const parts = [`curl ${shell(`${root}/${path}`)}`, '-H "Authorization: Bearer $APEX_KEY"'];
  if (json !== undefined) parts.push('-H "Content-Type: application/json"', `--data ${shell(literal(json))}`);
  for (const [name, value] of Object.entries(fields)) parts.push(`--form-string ${shell(`${name}=${value}`)}`);
  if (file) parts.push(`-F ${shell(`file=@"${file.replace(/["\\]/g, "\\$&")}"`)}`);
  const after = waits
    ? `\n\ncurl "${root}/jobs/JOB_ID?wait=30" -H "Authorization: Bearer $APEX_KEY"  # the id is in the answer`
    : "";
  return `${method === "POST" && json === undefined && !file ? "# POST\n" : ""}${parts.join(" \\\n  ")}${after}`;
}

/**
 * @param {Call} call
 * @param {string} root
 */
function python({ method, path, json, fields = {}, file, waits }, root) {
  const client = `with httpx.Client(base_url=${literal(root)}, headers=headers, timeout=60) as apex:`;
  const head = [
    "import os",
    "",
    "import httpx",
    "",
    'headers = {"Authorization": f"Bearer {os.environ[\'APEX_KEY\']}"}',
  ];
  if (file) {
    return [
      ...head,
      `${client.slice(0, -1)}, open(${literal(file)}, "rb") as track:`,
      `    sent = apex.post("/${path}", files={"file": track}, data=${literal(fields)})`,
      "    job = sent.raise_for_status().json()",
      ...(waits
        ? [
            '    while not job["done"]:',
            '        job = apex.get(f"/jobs/{job[\'id\']}", params={"wait": 30}).raise_for_status().json()',
          ]
        : []),
      'print(job["result"] or job["error"])',
    ].join("\n");
  }
  const body = json === undefined ? "" : `, json=${literal(json)}`;
  return [
    ...head,
    client,
    `    answer = apex.${method.toLowerCase()}(${literal(`/${path}`)}${body}).raise_for_status()`,
    "print(answer.json())",
  ].join("\n");
}

/**
 * @param {Call} call
 * @param {string} root
 */
function typescript({ method, path, json, fields = {}, file, waits }, root) {
  const head = [
    `const apex = ${literal(root)};`,
    "const headers = { Authorization: `Bearer ${process.env.APEX_KEY}` };",
    "",
  ];
  if (!file) {
    const body =
      json === undefined
        ? "{ headers }"
        : `{\n  method: ${literal(method)},\n  headers: { ...headers, "Content-Type": "application/json" },\n  body: JSON.stringify(${literal(json)}),\n}`;
    return [
      ...head,
      `const answer = await fetch(\`\${apex}/${path}\`, ${body});`,
      "if (!answer.ok) throw new Error(await answer.text());",
      "console.log(await answer.json());",
    ].join("\n");
  }
  return [
    'import { openAsBlob } from "node:fs";',
    "",
    ...head,
    "const form = new FormData();",
    ...Object.entries(fields).map(([name, value]) => `form.append(${literal(name)}, ${literal(value)});`),
    `form.append("file", await openAsBlob(${literal(file)}), "track");`,
    `let answer = await fetch(\`\${apex}/${path}\`, { method: "POST", headers, body: form });`,
    "if (!answer.ok) throw new Error(await answer.text());",
    "let job = await answer.json();",
    ...(waits
      ? [
          "while (!job.done) {",
          "  answer = await fetch(`${apex}/jobs/${job.id}?wait=30`, { headers });",
          "  job = await answer.json();",
          "}",
        ]
      : []),
    "console.log(job.result ?? job.error);",
  ].join("\n");
}
