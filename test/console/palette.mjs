// Pictures of 256 colours, which is what a page has, but for the edges of its letters: a third of
// the bytes. Of PNG it knows what Chromium writes: 8 bits, RGB or RGBA, in one pass.
import assert from 'node:assert/strict';
import { crc32, deflateSync, inflateSync } from 'node:zlib';

const signature = Buffer.from('89504e470d0a1a0a', 'hex');

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

// pixels are [width, height, one number 0xRRGGBB for each].
function pixels(png) {
  assert.deepEqual(png.subarray(0, 8), signature);
  const [width, height, depth, colour, interlaced] = [png.readUInt32BE(16), png.readUInt32BE(20), png[24], png[25], png[28]];
  assert.ok(depth === 8 && (colour === 2 || colour === 6) && interlaced === 0, `depth ${depth}, colour ${colour}, interlaced ${interlaced}`);
  const parts = [];
  for (let at = 8; at < png.length; at += png.readUInt32BE(at) + 12) {
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const raw = inflateSync(Buffer.concat(parts));
  const step = colour === 2 ? 3 : 4;
  const row = width * step;
  const out = new Uint32Array(width * height);
  let before = Buffer.alloc(row);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (row + 1)];
    const line = raw.subarray(y * (row + 1) + 1, (y + 1) * (row + 1));
    for (let x = 0; x < row; x++) { // PNG specification, §9
      const [left, up, corner] = [x < step ? 0 : line[x - step], before[x], x < step ? 0 : before[x - step]];
      const [p, a, b, c] = [left + up - corner, Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
      assert.ok(filter <= 4 && Number.isInteger(p));
      line[x] += [0, left, up, (left + up) >> 1, a <= b && a <= c ? left : b <= c ? up : corner][filter];
    }
    for (let x = 0; x < width; x++) out[y * width + x] = (line[x * step] << 16) | (line[x * step + 1] << 8) | line[x * step + 2];
    before = line;
  }
  return [width, height, out];
}

// reduced is the picture in the 256 colours that it has most of; each other is the nearest of them.
export function reduced(png) {
  const [width, height, all] = pixels(png);
  const counts = new Map();
  for (const c of all) counts.set(c, (counts.get(c) ?? 0) + 1);
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([c]) => c);
  const places = new Map(palette.map((c, i) => [c, i]));
  const far = (a, b) => [16, 8, 0].reduce((sum, shift) => sum + (((a >> shift) & 255) - ((b >> shift) & 255)) ** 2, 0);
  const placeOf = (c) => {
    if (!places.has(c)) places.set(c, palette.reduce((best, is, i) => (far(c, is) < far(c, palette[best]) ? i : best), 0));
    return places.get(c);
  };
  const rows = Buffer.alloc((width + 1) * height); // each begins with 0: no filter
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = placeOf(all[y * width + x]);
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap((c) => [c >> 16, (c >> 8) & 255, c & 255]));
  return Buffer.concat([signature, chunk('IHDR', head), chunk('PLTE', colours), chunk('IDAT', deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))]);
}
