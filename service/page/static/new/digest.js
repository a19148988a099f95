// SHA-256 of a file of any size, in another thread. The browser's own digest wants the whole file in memory, and TLS.

const PIECE = 4 * 2 ** 20;

export async function digestOf(file, tell, held) {
  const worker = new Worker(new URL("hashing.js", import.meta.url), { type: "module" });
  try {
    for (let offset = 0; offset < file.size; offset += PIECE) {
      await held.pass();
      tell(offset);
      const data = await file.slice(offset, offset + PIECE).arrayBuffer();
      await answerOf(worker, data, [data]);
    }
    return await answerOf(worker, null, []);
  } finally {
    worker.terminate();
  }
}

function answerOf(worker, message, transfer) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = () => reject(new Error("This browser could not read the file."));
    worker.postMessage(message, transfer);
  });
}
