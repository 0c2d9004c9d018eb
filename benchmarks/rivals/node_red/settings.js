// Node-RED without its editor, serving flow.json. PORT and DATABASE_URL come from the environment, as Node-RED suggests.
'use strict'

module.exports = {
  uiHost: '127.0.0.1',
  uiPort: process.env.PORT,
  flowFile: require('path').join(__dirname, 'flow.json'),
  readOnly: true,
  credentialSecret: false,
  httpAdminRoot: false,
  logging: { console: { level: 'warn' } }
}
