import { spoke } from './spoke.js';

const command = spoke((message) => postMessage(message));
onmessage = ({ data }) => command(data);
