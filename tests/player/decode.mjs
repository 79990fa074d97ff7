// Decodes files through the player's module, whole: for each a line of JSON, [name, MD5s of the frames,
// and of those between frames that the vector's description names, or the class of the error, seconds, megabytes that memory grew by].
//
//     node decode.mjs PLAYER_FOLDER FILE ...

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const { HnvDecoder, HnvError } = await import(pathToFileURL(`${folder}/hnv.js`));

async function decoded(file) {
  try {
    const decoder = await HnvDecoder.open(new Uint8Array(readFileSync(file)), { check: true });
    const sums = [];
    const add = async (...moment) => {
      sums.push(createHash("md5").update(await decoder.frameBytes(...moment)).digest("hex"));
    };
    for (let n = 0; n < decoder.frameCount; n++) await add(n);
    const { between = [] } = JSON.parse(readFileSync(file.replace(/hnv$/, "json"), "utf8"));
    for (const { n, p, q } of between) await add(n, p, q);
    decoder.close();
    return sums;
  } catch (error) {
    if (error instanceof HnvError) return error.kind;
    throw error;
  }
}

for (const file of files) {
  const start = performance.now(), before = process.memoryUsage().rss;
  const result = await decoded(file);
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify([file, result, seconds, (process.memoryUsage().rss - before) / 2 ** 20]));
}
