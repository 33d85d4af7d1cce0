'use strict'
// Opens what hyphafs sealed, written from drive/record/doc.go with Node's own cryptography: a reader that shares no
// code with the Go one.
const crypto = require('crypto')
const sodium = require('sodium-universal')

const rotl = (x, n) => (x << n | x >>> (32 - n)) >>> 0

// HChaCha20 (draft-irtf-cfrg-xchacha-03, section 2.2): the subkey of a key and the first 16 bytes of a nonce.
function hchacha20 (key, nonce) {
  const s = new Uint32Array(16)
  s.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574])
  for (let i = 0; i < 8; i++) s[4 + i] = key.readUInt32LE(4 * i)
  for (let i = 0; i < 4; i++) s[12 + i] = nonce.readUInt32LE(4 * i)
  const quarter = (a, b, c, d) => {
    s[a] += s[b]; s[d] = rotl(s[d] ^ s[a], 16)
    s[c] += s[d]; s[b] = rotl(s[b] ^ s[c], 12)
    s[a] += s[b]; s[d] = rotl(s[d] ^ s[a], 8)
    s[c] += s[d]; s[b] = rotl(s[b] ^ s[c], 7)
  }
  for (let i = 0; i < 10; i++) {
    for (let k = 0; k < 4; k++) quarter(k, 4 + k, 8 + k, 12 + k)
    for (let k = 0; k < 4; k++) quarter(k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4)
  }
  const out = Buffer.alloc(32)
  for (let i = 0; i < 4; i++) { out.writeUInt32LE(s[i], 4 * i); out.writeUInt32LE(s[12 + i], 16 + 4 * i) }
  return out
}

// sealed = version 01 || varint epoch || nonce (24) || XChaCha20-Poly1305
function open (key, sealed, place) {
  if (sealed[0] !== 1 || sealed[1] !== 0) throw new Error('version or epoch')
  const nonce = sealed.subarray(2, 26)
  const box = sealed.subarray(26)
  const short = Buffer.concat([Buffer.alloc(4), nonce.subarray(16)])
  const d = crypto.createDecipheriv('chacha20-poly1305', hchacha20(key, nonce), short, { authTagLength: 16 })
  d.setAAD(place)
  d.setAuthTag(box.subarray(box.length - 16))
  return Buffer.concat([d.update(box.subarray(0, box.length - 16)), d.final()])
}

const u64 = n => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b }
const epoch = Buffer.alloc(4)

function openRecord (keys, writer, dbKey, sealed) {
  return fields(open(keys.meta, sealed, Buffer.concat([Buffer.from('hyphafs record 1'), epoch, writer, Buffer.from(dbKey)])))
}

function openBlock (keys, feed, inode, number, sealed) {
  return open(keys.blocks, sealed, Buffer.concat([Buffer.from('hyphafs block 1'), epoch, feed, inode, u64(number)]))
}

// token is the name token: BLAKE2b-128 keyed with the names key over directory id and name.
function token (keys, dir, name) {
  const out = Buffer.alloc(16)
  sodium.crypto_generichash(out, Buffer.concat([dir, Buffer.from(name)]), keys.names)
  return out.toString('base64url')
}

// Protobuf: { number: [values] }
function fields (buf) {
  const out = {}
  let at = 0
  const varint = () => { let v = 0; for (let m = 1; ; m *= 128) { const b = buf[at++]; v += (b & 127) * m; if (b < 128) return v } }
  while (at < buf.length) {
    const tag = varint()
    const list = out[tag >> 3] = out[tag >> 3] || []
    switch (tag & 7) {
      case 0: list.push(varint()); break
      case 1: list.push(buf.subarray(at, at += 8)); break
      case 2: { const n = varint(); list.push(buf.subarray(at, at += n)); break }
      default: throw new Error('wire type')
    }
  }
  return out
}

// file returns the bytes of the file at path (names from the root down). get(key) gives { feed, value } of a database key, block(feed, seq) a
// block of a content feed; both verified by hypercore.
async function file (keys, path, get, block) {
  let id = Buffer.alloc(12)
  for (const name of path) {
    const key = 'd/' + id.toString('base64url') + '/' + token(keys, id, name)
    const node = await get(key)
    const entry = openRecord(keys, node.feed, key, node.value)
    if (entry[1][0].toString() !== name) throw new Error('another name')
    id = entry[2][0]
  }
  const key = 'f/' + id.toString('base64url')
  const node = await get(key)
  const inode = openRecord(keys, node.feed, key, node.value)
  const out = Buffer.alloc((inode[12] || [0])[0])
  for (const e of inode[13] || []) {
    const extent = fields(e)
    const [first, count, feed, seq] = [1, 2, 3, 4].map(n => (extent[n] || [0])[0])
    for (let i = 0; i < count; i++) {
      const contentFeed = inode[14][feed]
      openBlock(keys, contentFeed, id, first + i, await block(contentFeed, seq + i)).copy(out, (first + i) * 65536)
    }
  }
  return out
}

module.exports = { file }
