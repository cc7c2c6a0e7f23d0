// A usage file into a report: node report.js usage.csv report.html (without a file: a sample of Apex's own)

import { writeFileSync } from 'node:fs';
import { analyse, sample } from 'netra-apex';

const [file, page = 'report.html'] = process.argv.slice(2);
const analysis = await analyse(file ?? { name: 'sample.csv', content: await sample() });
console.log(await analysis.summary());
for (const { model, requests } of analysis.report.by_model) console.log(model, requests);
writeFileSync(page, await analysis.html());
