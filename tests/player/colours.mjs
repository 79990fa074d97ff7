// Writes the first frame of each file as RGBA, one after the other.
//
//     node colours.mjs PLAYER_FOLDER OUT FILE ...

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, out, ...files] = process.argv.slice(2);
const { HnvDecoder } = await import(pathToFileURL(`${folder}/hnv.js`));
const pictures = [];
for (const file of files) {
  const decoder = await HnvDecoder.open(new Uint8Array(readFileSync(file)));
  pictures.push(new Uint8Array((await decoder.rgba(0)).data.buffer));
  decoder.close();
}
writeFileSync(out, Buffer.concat(pictures));
