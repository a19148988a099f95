// A thread that is sent pieces of a file and answers each; null asks for the digest of all of them, in hexadecimal.

import { Sha256 } from "./sha256.js";

const digest = new Sha256();

onmessage = ({ data }) => {
  if (data === null) postMessage(digest.hex());
  else {
    digest.update(new Uint8Array(data));
    postMessage(true);
  }
};
