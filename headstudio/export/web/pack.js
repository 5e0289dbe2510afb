// Numbers as web_pack.py wrote them: header length, header, arrays; deflated, then base64
async function readPack(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  const arrays = {};
  for (const [name, entry] of Object.entries(header.arrays)) arrays[name] = readArray(bytes, 4 + length, entry);
  return { ...header, arrays };
}

const TYPES = { float32: Float32Array, int16: Int16Array, int32: Int32Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };

// A typed array of the entry's shape, row by row; what was stored in steps becomes float32
function readArray(bytes, start, { type, shape, at, low, step }) {
  const stored = new TYPES[type](bytes, start + at, shape.reduce((a, b) => a * b, 1));
  if (!low) return stored;
  const values = new Float32Array(stored.length), columns = low.length;
  for (let i = 0; i < stored.length; i++) values[i] = low[i % columns] + step[i % columns] * stored[i];
  return values;
}
