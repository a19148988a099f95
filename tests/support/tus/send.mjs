// node send.mjs ENDPOINT FILE NAME: sends FILE with tus-js-client, going on after breaks; prints what happened as JSON.
import { createReadStream, statSync } from 'node:fs'
import * as tus from 'tus-js-client'

const [endpoint, path, filename] = process.argv.slice(2)
const requests = []
const upload = new tus.Upload(createReadStream(path), {
  endpoint,
  uploadSize: statSync(path).size,
  chunkSize: 4 * 2 ** 20,
  metadata: { filename },
  retryDelays: [0, 200, 200, 200, 200],
  onAfterResponse: (request, response) => {
    requests.push([request.getMethod(), response.getStatus(), response.getHeader('Upload-Offset')])
  },
  onError: (error) => {
    console.log(JSON.stringify({ error: String(error), requests }))
    process.exit(1)
  },
  onSuccess: () => console.log(JSON.stringify({ url: upload.url, requests })),
})
upload.start()
