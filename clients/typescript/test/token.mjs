// Tokens as the hub wants them.
import { createHmac } from 'node:crypto';

export const KEY = 'a secret of more than thirty-two bytes';
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

export function token({ seconds = 3600, topics = ['tick:*'], publish = [], sub = 'ada', key = KEY } = {}) {
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const body = `${base64({ alg: 'HS256', typ: 'JWT' })}.${base64({ exp, topics, publish, sub })}`;
  return `${body}.${createHmac('sha256', key).update(body).digest('base64url')}`;
}
